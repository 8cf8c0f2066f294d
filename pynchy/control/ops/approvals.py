"""Control ops to list, approve and deny what agents ask for.

The rule that keeps it so: what a decision does is in `actions.approvals`, the same as by a message in main. Who
may ask has been settled by the socket: whoever reaches it is the owner.
"""

from __future__ import annotations

import attrs

from pynchy.actions.approvals import decide
from pynchy.actions.call import Scaffold, no_folders
from pynchy.control.ops.acting import Acting, bounded
from pynchy.control.server import Client, op
from pynchy.policy.requests import lines, read, read_code
from pynchy.store import approvals
from pynchy.store.approvals import Approval


@attrs.frozen
class ApprovalOps:
    """The table of these ops. ``scaffold`` makes the folders of a group whose registration is approved."""

    acting: Acting
    scaffold: Scaffold = no_folders

    @op("approvals")
    async def list(self, client: Client, *, every: bool = False, limit: int = 100) -> object:
        """What agents have asked people in main for and nobody has decided, the oldest first; with ``every`` all
        that was ever asked, the newest first. ``text`` is the whole of a request, as a person reads it."""
        limit = bounded(limit, most=1000)
        found = await self.acting.store.call(approvals.recent, every=every, limit=limit)
        return [shown(each) for each in found]

    @op("approve")
    async def approve(self, client: Client, *, code: str, sha256: str = "") -> object:
        """Approve a request: it is carried out before the answer, or the answer says why it cannot be. ``sha256``,
        if given, must be that of the request: so that what is approved is what was shown."""
        return await self._decide(code, approve=True, sha256=sha256)

    @op("deny")
    async def deny(self, client: Client, *, code: str) -> object:
        """Deny a request. Its agent is told."""
        return await self._decide(code, approve=False)

    async def _decide(self, code: str, *, approve: bool, sha256: str = "") -> object:
        decided = await self.acting.get(
            decide, read_code(code), approve=approve, scaffold=self.scaffold, sha256=sha256
        )
        state = "denied" if not approve else "done" if decided.ok else "failed"
        return {"code": decided.approval.code, "state": state, "text": decided.text}


def shown(approval: Approval) -> dict[str, object]:
    """One request, for the owner's programs."""
    text = "\n".join(lines(read(approval.request)))
    return {**attrs.asdict(approval), "text": text}
