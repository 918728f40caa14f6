"""Read, check, measure, build, sign and compare Enclave Image Format files, byte for byte like nitro-cli.

The room's rules: nothing here prints, starts processes or needs the network. Files are streamed, never held
in memory. Every reader is total and raises only ``EifError``, with a stable code and an offset.

What to start with::

    examine.read_image      strict: the image, its measurements, or the first broken rule
    examine.examine         lenient: every finding; describe.describe makes `eif show` of it
    archive.open_archive    an image archive; application.write_application makes its ramdisk
    build.build_image       kernel, command line, ramdisks and metadata to one file
    sign.sign_image         a signed copy
    diff.compare_images     what differs, and why the PCRs moved
"""
