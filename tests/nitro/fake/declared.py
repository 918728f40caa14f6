"""What nitro-cli declares to clap, by version."""

from __future__ import annotations

from tests.nitro.fake.arguments import App, Command, Option

_CERTIFICATE = Option(
    name="signing-certificate",
    value="signing-certificate",
    help="Local path to developer's X509 signing certificate.",
    requires="private-key",
)
_KEY = Option(
    name="private-key",
    value="private-key",
    help="KMS key ARN or local path to developer's Eliptic Curve private key.",
    requires="signing-certificate",
)
_ID = "Enclave ID, used to uniquely identify an enclave"
_NAME = "Enclave name, used to uniquely identify an enclave"

RUN = Command(
    name="run-enclave",
    about="Starts a new enclave",
    options=(
        Option(
            name="cpu-ids",
            value="cpu-ids",
            many=True,
            help="List of cpu-ids that will be provided to the enclave",
            unless=("cpu-count", "config"),
            conflicts=("cpu-count", "config"),
        ),
        Option(
            name="cpu-count",
            value="cpu-count",
            help="Number of cpus",
            unless=("cpu-ids", "config"),
            conflicts=("cpu-ids", "config"),
        ),
        Option(
            name="memory",
            value="memory",
            help="Memory to allocate for the enclave in MB. Depending on the available pages, "
            "more might be allocated.",
            unless=("config",),
            conflicts=("config",),
        ),
        Option(
            name="eif-path",
            value="eif-path",
            help="Path pointing to a prebuilt Eif image",
            unless=("config",),
            conflicts=("config",),
        ),
        Option(
            name="enclave-cid",
            value="enclave-cid",
            help="CID to be used for the newly started enclave",
            conflicts=("config",),
        ),
        Option(
            name="debug-mode",
            help="Starts enclave in debug-mode. This makes the console of the enclave available over vsock "
            "at CID: VMADDR_CID_HYPERVISOR (0), port: enclave_cid + 10000. \n"
            " The stream could be accessed with the console sub-command",
            conflicts=("config",),
        ),
        Option(
            name="attach-console",
            help="Attach the enclave console immediately after starting the enclave. (implies debug-mode)",
        ),
        Option(
            name="enclave-name",
            value="enclave-name",
            help="Custom name assigned to the enclave by the user",
            conflicts=("config",),
        ),
        Option(
            name="config",
            value="json-config",
            help="Config is used to read enclave settings from JSON file",
        ),
    ),
)

TERMINATE = Command(
    name="terminate-enclave",
    about="Terminates an enclave",
    options=(
        Option(
            name="enclave-id",
            value="enclave-id",
            help=_ID,
            unless=("all", "enclave-name"),
            conflicts=("all", "enclave-name"),
        ),
        Option(
            name="all",
            help="Terminate all running enclave instances belonging to the current user",
            unless=("enclave-id", "enclave-name"),
            conflicts=("enclave-id", "enclave-name"),
        ),
        Option(
            name="enclave-name",
            value="enclave-name",
            help=_NAME,
            unless=("enclave-id", "all"),
            conflicts=("enclave-id", "all"),
        ),
    ),
)

BUILD = Command(
    name="build-enclave",
    about="Builds an enclave image and saves it to a file",
    options=(
        Option(
            name="docker-uri",
            value="docker-uri",
            help="Uri pointing to an existing docker container or to be created locally when docker-dir is "
            "present",
            unless=(),
        ),
        Option(
            name="docker-dir",
            value="docker-dir",
            help="Local path to a directory containing a Dockerfile",
        ),
        Option(
            name="output-file",
            value="output-file",
            help="Location where the Enclave Image should be saved",
            unless=(),
        ),
        _CERTIFICATE,
        _KEY,
        Option(name="name", value="image_name", help="Name for enclave image"),
        Option(name="version", value="image_version", help="Version of the enclave image"),
        Option(
            name="metadata",
            value="metadata",
            help="Path to JSON containing the custom metadata provided by the user.",
        ),
    ),
)

DESCRIBE_EIF = Command(
    name="describe-eif",
    about="Returns information about the EIF found at a given path.",
    options=(Option(name="eif-path", value="eif-path", help="Path to the EIF to describe.", unless=()),),
)

DESCRIBE = Command(
    name="describe-enclaves",
    about="Returns a list of the running enclaves",
    options=(
        Option(name="metadata", help="Adds EIF metadata of the current enclaves to the command output."),
    ),
)

CONSOLE = Command(
    name="console",
    about="Connect to the console of an enclave",
    options=(
        Option(
            name="enclave-id",
            value="enclave-id",
            help=_ID,
            unless=("enclave-name",),
            conflicts=("enclave-name",),
        ),
        Option(
            name="disconnect-timeout",
            value="disconnect-timeout",
            help="The time in seconds after the console disconnects from the enclave",
        ),
        Option(
            name="enclave-name",
            value="enclave-name",
            help=_NAME,
            unless=("enclave-id",),
            conflicts=("enclave-id",),
        ),
    ),
)

PCR = Command(
    name="pcr",
    about="Return the PCR hash value of the given input",
    options=(
        Option(
            name="signing-certificate",
            value="signing-certificate",
            help="Takes the path to the '.pem' signing certificate and returns PCR8. Can be used to identify "
            "the certificate used to sign an EIF",
            unless=("input",),
            conflicts=("input",),
        ),
        Option(
            name="input",
            value="input",
            help="Given a path to a file, returns the PCR hash of the bytes it contains",
            unless=("signing-certificate",),
            conflicts=("signing-certificate",),
        ),
    ),
)

EXPLAIN = Command(
    name="explain",
    about="Display detailed information about an error returned by a misbehaving Nitro CLI command",
    options=(
        Option(
            name="error-code",
            value="error-code",
            help="Error code, as returned by the misbehaving Nitro CLI command",
            unless=(),
        ),
    ),
)

SIGN = Command(
    name="sign-eif",
    about="Sign EIF with the given key",
    options=(
        Option(name="eif-path", value="eif-path", help="Path pointing to a prebuilt Eif image"),
        _CERTIFICATE,
        _KEY,
    ),
)


def app_of(version: str) -> App:
    """The program of that version: what came later is unknown to it."""
    release = tuple(int(part) for part in version.split("."))
    commands = [RUN, TERMINATE, BUILD, DESCRIBE_EIF, DESCRIBE, CONSOLE, PCR, EXPLAIN]
    if release >= (1, 4, 0):
        commands.append(SIGN)
    if release < (1, 2, 0):
        commands = [_without(command, {"attach-console", "metadata"}) for command in commands]
    return App(
        title="Nitro CLI",
        about="CLI for enclave lifetime management",
        version=version,
        commands=tuple(commands),
    )


def _without(command: Command, names: set[str]) -> Command:
    kept = tuple(option for option in command.options if option.name not in names)
    return Command(name=command.name, about=command.about, options=kept)
