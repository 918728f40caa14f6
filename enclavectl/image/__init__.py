"""From the payload and a model to a Docker image, and from any Docker image to a measured enclave image.

The room's rules: nothing here prints. Only ``engine`` imports the Docker SDK. A build writes its files beside
their destination and renames them last, so a failed or interrupted build changes nothing.

What to start with::

    wheels.resolve_wheels   the payload's dependencies for the base image, locked by hash
    context.write_context   the deterministic build context
    lint                    what is wrong with an image before it becomes one
    build.build_enclave     all of it, to an image file and its lock
"""
