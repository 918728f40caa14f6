"""From the payload and a model to a Docker image, and from any Docker image to a measured enclave image.

The ring's rules: nothing here prints; the Docker SDK is imported by ``engine`` only; what the build writes is
staged beside its destination and put in place last, so a failed or interrupted build changes nothing.

What to start with::

    wheels.resolve_wheels   the payload's dependencies for the base image, locked by hash
    context.write_context   the deterministic build context
    lint                    what is wrong with an image before it becomes one
    build.build_enclave     all of it, to an image file and its lock
"""
