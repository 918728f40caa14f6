"""The steps that make an instance a Nitro host, in order; every step first checks what is done already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from enclavectl.errors import HostError
from enclavectl.host.allocation import Allocation, Guard, small_pages
from enclavectl.host.changer import Action
from enclavectl.host.checks.facts import DEVICE, ENABLE_ENCLAVES, MODULE, Facts
from enclavectl.host.cpu_list import format_cpu_list
from enclavectl.host.cpus import Cpus, read_cpus
from enclavectl.host.distro import Distro
from enclavectl.host.groups import Membership, membership
from enclavectl.host.host import User
from enclavectl.host.memory import read_memory
from enclavectl.host.packages import PARTS, Part, driver_actions
from enclavectl.host.plan import PARENT_MIB
from enclavectl.host.reservation import ALLOCATOR_FILE, Reservation
from enclavectl.host.steps import Report, Step, StepPlan, StepState, already, skipped, would_run


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupRequest:
    """The wanted state of the host. ``user`` will start enclaves and build images."""

    reservation: Reservation
    user: str
    at_next_boot: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupOutcome:
    """The actions left to the person, with their reasons; empty texts for none."""

    login: str
    reboot: str


class Setup:
    """The setup of one host."""

    def __init__(self, facts: Facts, distro: Distro, request: SetupRequest, guard: Guard) -> None:
        """Prepare the steps. Each step reads ``facts`` anew."""
        self._facts = facts
        self.host = facts.host
        self.distro = distro
        self.request = request
        self.allocation = Allocation(
            host=facts.host,
            wanted=request.reservation,
            guard=guard,
            at_next_boot=request.at_next_boot,
        )

    @property
    def facts(self) -> Facts:
        """The host's current facts; they are read again after each step."""
        return Facts(self.host, self._facts.settings)

    def steps(self) -> list[Step]:
        """Return the steps in their required order."""
        allocation = self.allocation
        return [
            Step(id="sizes", title="what is asked for fits this host", plan=self._sizes),
            *(Step(id=part.id, title=part.title, plan=partial(self._part, part)) for part in PARTS),
            Step(id="driver", title="the driver nitro_enclaves", plan=self._driver),
            Step(id="docker-service", title="Docker runs, now and after a boot", plan=self._docker_service),
            Step(id="group-ne", title="may start enclaves", plan=lambda: self._group("ne")),
            Step(id="group-docker", title="may build images", plan=lambda: self._group("docker")),
            Step(
                id="allocator-file",
                title="how much is kept for enclaves",
                plan=lambda: self._allocator(allocation.plan_file),
            ),
            Step(
                id="allocator-restart",
                title="it is kept, and sysfs shows it",
                plan=lambda: self._allocator(allocation.plan_pool),
            ),
            Step(
                id="allocator-service",
                title="it is kept after each boot",
                plan=lambda: self._allocator(allocation.plan_service),
            ),
        ]

    def outcome(self, reports: Sequence[Report]) -> SetupOutcome:
        """Return whether a new login or a reboot is needed after these steps."""
        return SetupOutcome(login=self._login(), reboot=self._reboot(reports))

    def _sizes(self) -> StepPlan:
        wanted, cpus, memory = (
            self.request.reservation,
            read_cpus(self.host.tree),
            read_memory(self.host.tree),
        )
        threads = cpus.threads_per_core
        if wanted.cpus % threads:
            raise HostError(
                f"{wanted.cpus} CPUs are no whole number of cores: a core has {threads} here",
                hint=f"enclavectl setup --cpus {wanted.cpus + threads - wanted.cpus % threads}",
                code="split-core",
            )
        if wanted.cpu_pool is not None:
            _check_pool(wanted.cpu_pool, cpus)
        most = max(cpus.capacity().values(), default=0)
        if wanted.cpus > most:
            raise HostError(
                f"{wanted.cpus} CPUs are wanted, the largest NUMA node could give {most}: CPU 0's core stays",
                hint=f"enclavectl setup --cpus {most}" if most else "use an instance with more CPUs",
                code="host-too-small",
            )
        largest = max((node.total_mib for node in memory.nodes), default=memory.total_mib) - PARENT_MIB
        if wanted.memory_mib > largest:
            raise HostError(
                f"{wanted.memory_mib} MiB are wanted, the largest NUMA node could give {max(0, largest)}",
                hint=f"enclavectl setup --memory {largest // 2 * 2}"
                if largest > 0
                else "use an instance with more memory",
                code="host-too-small",
            )
        return already(f"{wanted.memory_mib} MiB of {largest}, {wanted.cpus} CPUs of {most}")

    def _part(self, part: Part) -> StepPlan:
        if part.is_installed(self.host):
            return already("installed")
        recipe = part.recipes[self.distro.family]
        if recipe.by_hand is not None:
            return skipped(f"by hand: {recipe.by_hand}", is_missing=True)
        return would_run(f"installed from {self.distro.name}'s packages", *recipe.actions)

    def _driver(self) -> StepPlan:
        facts = self.facts
        if facts.tree.exists(MODULE) and facts.tree.exists(DEVICE):
            return already("loaded")
        if facts.pci_device is None:
            return skipped(
                "this machine has no Nitro Enclaves device: enable enclaves for the instance "
                "(EnclaveOptions.Enabled=true); building images needs none",
                is_missing=True,
            )
        if facts.tree.exists(MODULE):
            return skipped(f"the driver is loaded, but made no {DEVICE}: sudo reboot", is_missing=True)
        return would_run("the driver will be loaded", *driver_actions(self.distro.family))

    def _docker_service(self) -> StepPlan:
        probe = self.host.probe
        answers = [probe.run("systemctl", word, "docker.service") for word in ("is-active", "is-enabled")]
        if any(answer is None for answer in answers):
            return skipped("no systemd here", is_missing=True)
        if [answer.text.strip() for answer in answers if answer] == ["active", "enabled"]:
            return already("Docker runs, and will after a boot")
        return would_run("Docker will run", Action(argv=("systemctl", "enable", "--now", "docker")))

    @property
    def _user(self) -> User:
        user = self.host.user
        # The groups of another user's logins are unknown.
        return (
            user if user.name == self.request.user else User(name=self.request.user, uid=-1, gids=frozenset())
        )

    def _group(self, group: str) -> StepPlan:
        if self.request.user == "root":
            return already("root needs no group")
        found = membership(self.facts.groups, self._user, group)
        if found is Membership.CURRENT:
            return already(f"{self.request.user} is in the group {group}")
        if found is Membership.OLD_LOGIN:
            return already(f"{self.request.user} is in the group {group}, but this login is older than that")
        actions = [Action(argv=("usermod", "-aG", group, self.request.user))]
        if group == "ne" and found is Membership.NO_GROUP and not self.distro.family.has_nitro_cli:
            # Only Amazon's package creates the group.
            actions.insert(0, Action(argv=("groupadd", "--system", "--force", "ne")))
        return would_run(f"{self.request.user} will be in the group {group}; a new login has it", *actions)

    def _allocator(self, plan: Callable[[], StepPlan]) -> StepPlan:
        """Run ``plan``, or skip the step if the host has no allocator."""
        if self._has_allocator() or self.distro.family.has_nitro_cli:
            return plan()
        return skipped(f"no {ALLOCATOR_FILE}: it comes with nitro-cli; run this again then", is_missing=True)

    def _has_allocator(self) -> bool:
        return self.host.tree.exists(ALLOCATOR_FILE) or self.host.probe.find("nitro-cli") is not None

    def _login(self) -> str:
        groups = self.facts.groups
        old = [
            group
            for group in ("ne", "docker")
            if self.request.user != "root" and membership(groups, self._user, group) is Membership.OLD_LOGIN
        ]
        if not old:
            return ""
        return (
            f"{self.request.user} is in {' and '.join(old)}, which a login from before that does not have: "
            "log out and in again, and restart what is to use it"
        )

    def _reboot(self, reports: Sequence[Report]) -> str:
        states = {report.id: report.state for report in reports}
        if self.request.at_next_boot and states.get("allocator-restart") is StepState.SKIPPED:
            return "the allocator reserves memory and CPUs at the next boot, as asked"
        if states.get("allocator-restart") not in {StepState.DONE, StepState.ALREADY}:
            return ""
        cpus, memory = read_cpus(self.host.tree), read_memory(self.host.tree)
        node = memory.node(min(cpus.nodes_of(cpus.pool or frozenset()), default=0))
        if small_pages(node, self.request.reservation):
            return (
                f"{node.reserved.get(2, 0)} pages of 2 MiB were reserved in place of pages of 1 GiB, because "
                "memory is fragmented: enclaves start, but slowly, and large ones may reach the driver's "
                "limit of regions"
            )
        return ""


def _check_pool(pool: frozenset[int], cpus: Cpus) -> None:
    problems = {
        "are not of this host": pool - cpus.present,
        "are CPU 0's core, which stays with this host": pool & cpus.first_core,
        "lack a sibling of their core": cpus.split_cores(pool),
    }
    for words, found in problems.items():
        if found:
            raise HostError(f"--cpu-pool: CPUs {format_cpu_list(found)} {words}", code="cpu-pool")
    if len(cpus.nodes_of(pool)) > 1:
        raise HostError("--cpu-pool: the CPUs are on several NUMA nodes, enclaves use one", code="cpu-pool")


def require_device(facts: Facts) -> None:
    """Check that the hypervisor gave this machine the enclave device.

    Raises:
        HostError: it did not, so a setup would reserve memory and CPUs in vain.
    """
    if facts.is_nitro:
        return
    what = "an EC2 instance on which enclaves are not enabled" if facts.is_ec2 else "no EC2 instance"
    raise HostError(
        f"setup: expected an instance with the Nitro Enclaves device, found {what}; nothing was changed",
        hint=f"{ENABLE_ENCLAVES}; enclavectl setup --without-device goes on all the same",
        code="no-nitro-device",
    )
