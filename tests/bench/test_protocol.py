"""What a row says of the code that made it."""

import subprocess

from bench import protocol


def test_the_commit_tells_of_files_that_are_not_in_it(tmp_path, monkeypatch):
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    own, learner = (tmp_path / file for file in ("bench/protocol.py", "algorithms/maml.py"))
    for file in (own, learner):
        file.parent.mkdir()
        file.write_text("")
    monkeypatch.setattr(protocol, "__file__", str(own))
    git("init", "-q")
    assert protocol.commit() is None
    git("add", ".")
    git("commit", "-q", "-m", "x")
    head = git("rev-parse", "--short=12", "HEAD")
    (tmp_path / "notes.txt").write_text("no code")
    assert protocol.commit() == head
    new = learner.with_name("new.py")
    new.write_text("")
    assert protocol.commit() == f"{head}+"
    new.unlink()
    own.write_text("edited")
    assert protocol.commit() == f"{head}+"
