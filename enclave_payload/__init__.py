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
    ``picture``     hands encoded pictures to Pillow's decoders, within bounds

Answers of the hypervisor and files of the image (trusted, read strictly all the same):
    ``cbor``        the encoder and the small decoder
    ``nsm``         the Nitro Secure Module: attestation documents and random bytes
    ``card``        the measured model card
    ``classifier``  the weights and TFLite

Keys:
    ``entropy``     seeds the kernel's pool before the first key is made
    ``seal``        the enclave's key pairs; opens requests, seals answers
    ``workers``     opens a request, classifies, seals; the only place that sees a picture and a key together

Counting, waiting and wiring, never a plaintext:
    ``limits``      every bound, with its reason
    ``outbox``      sealed answers that wait for the parent's listener
    ``server``      accepts, dials, queues, refuses
    ``media``       the names of the picture formats
    ``__main__``    the start
"""
