"""What is measured and trusted: the program that runs inside the enclave.

Nothing here imports ``enclavectl``; tests/test_architecture.py holds the allow-list of imports. What only a
client reads or writes is not here: ``enclavectl/protocol`` has that half. docs/protocol.md is the
specification of both.

To audit, read in this order.

Untrusted bytes, before anything is opened (anybody can send them):
    ``wire``        cuts a stream into frames; refuses a frame by its header
    ``messages``    the messages in the clear, each of an exact form
    ``session``     the order in which messages may come; what makes a session die
    ``connection``  sockets with deadlines and a bounded backlog

Untrusted bytes, after they were opened (anybody with a public key can seal them):
    ``contents``    the fixed header of a request; what an answer and a key configuration hold

In decoders, the processes that see pictures and no key:
    ``zygote``      forks them from a process that was made before the keys
    ``lockdown``    what a decoder gives up before it sees a picture
    ``pipeline``    decodes, then classifies
    ``picture``     hands encoded pictures to Pillow's decoders, within bounds
    ``png_metadata``, ``jpeg_form``  what Pillow must not see, and what it does not
    ``png_pixels``  has ISA-L inflate a PNG's pixels, within bounds
    ``classifier``  the weights and TFLite

Between decoders and keys (whoever owns a decoder can write here):
    ``verdict``     the few bytes that pass, read strictly
    ``decoder``     hands pictures out, watches the clock, kills and replaces

Answers of the hypervisor and files of the image (trusted, read strictly all the same):
    ``cbor``        the encoder and the small decoder
    ``nsm``         the Nitro Secure Module: the model's register, attestation documents, random bytes
    ``card``        the measured model card

The release of a model's key, in an image without weights:
    ``sealed``      the sealed file: its header, keys and chunks
    ``cms``         the answer of AWS KMS
    ``release``     the release port: offer, key, chunks

Keys:
    ``entropy``     seeds the kernel's pool before the first key is made
    ``seal``        the enclave's key pairs; opens requests, seals answers
    ``evidence``    the answer to a challenge: keys, card, document
    ``receipt``     the receipt key; signs which model gave which answer for which picture
    ``workers``     opens a request, has it classified, signs, seals; holds picture and key, parses neither

Counting, waiting and wiring, never a plaintext:
    ``limits``      every bound, with its reason
    ``places``      which connections stay
    ``lane``        how many workers slow pictures may hold
    ``outbox``      sealed answers that wait for the parent's listener
    ``tally``       counts bad peers for the console
    ``server``      accepts, dials, queues, refuses
    ``media``       the names of the picture formats
    ``key_holder``  the start of the process that holds the keys
    ``__main__``    the start: forks the zygote, then becomes the key holder
"""
