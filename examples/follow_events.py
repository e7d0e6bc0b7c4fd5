"""Follow what happens in a results store, and act on it by what the record says.

    python follow_events.py

An event is news, and the record is the truth: so the set is looked at, and not believed to be what the event says.
"""

from __future__ import annotations

from emdstore import Follower, Workspace, list_sets, retract


def tell(workspace: Workspace, follower: Follower) -> None:
    """Print what is new, and the state of the set now."""
    for event in follower.news():
        (found,) = list_sets(workspace.results, event.name)
        use = "not to be used" if found.retraction is not None else "to be used"
        print(f"{event.kind}: {found.state}, {found.artifacts} artifacts, {use}")


def main() -> None:
    with Workspace.in_memory() as workspace:
        follower = Follower(workspace.results)
        follower.news()  # from here on
        with workspace.start_execution(provider="mytool", diagnostic="sea-ice", group="historical") as execution:
            execution.add_scalar(-0.52, region="arctic")
        execution.commit_output_assets()
        tell(workspace, follower)
        retract(workspace.results, execution.fragment, reason="the wrong mask")
        tell(workspace, follower)
        tell(workspace, follower)  # nothing is told twice


if __name__ == "__main__":
    main()
