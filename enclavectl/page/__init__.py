"""The patient's page: policy, root and gateway in one HTML file with the browser's verifier."""
