"""The program that runs the pages: what it compares, and that its list of commands that are not run is that of the pages."""

from __future__ import annotations

import pytest

from docs.build_site import DOCS
from tests.docs.compare_output import compare, key
from tests.docs.run_pages import BLOCK, NOT_RUN, commands, reason

NAMES = sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))
REAL = "run folder /tmp/a/runs/first: 30 steps\nnote\nstep 1/30  loss 3.1  left 00:01:10\nstep 30/30  loss 2.0  left 00:00:00\ndone\n"


def test_numbers_times_and_folders_do_not_count_and_words_and_steps_do() -> None:
    assert key("loss 3.1  0.5 ± 0.1  6 min ago  /home/you/runs/first") == key("loss 12.25  0.75  54 s ago  /tmp/x/runs/first")
    assert key("step 10/30  loss 2") != key("step 20/30  loss 2")
    assert key("clips read 480, unreadable 0") != key("clips read 480, lost 0")


def test_a_block_gets_the_real_lines_and_dots_where_it_leaves_lines_out() -> None:
    block = "run folder /home/you/runs/first: 30 steps\nstep 30/30  loss 9  left 00:00:00\ndone\n"
    assert compare(block, REAL) == ("run folder /tmp/a/runs/first: 30 steps\n...\nstep 30/30  loss 2.0  left 00:00:00\ndone\n", [])


def test_dots_of_the_page_stay_alone_also_next_to_an_empty_line() -> None:
    for block in ("run folder: 30 steps\n...\ndone\n", "run folder: 30 steps\n...\n\ndone\n"):
        assert compare(block, "run folder: 30 steps\nnote\n\ndone\n") == (block, [])
    assert compare("a\nc\ne\n", "a\nb\nc\nd\ne\n")[0] == "a\n...\nc\n...\ne\n"


def test_a_line_that_the_output_lacks_stays_and_is_reported() -> None:
    assert compare("step 1/30  rank 3\ndone\n", REAL) == ("step 1/30  rank 3\n...\ndone\n", ["step 1/30  rank 3"])
    assert compare("done\nnote\n", REAL)[1] == ["note"]  # in another order


@pytest.mark.parametrize("name", NAMES)
def test_an_output_follows_commands_that_are_run(name: str) -> None:
    ran = False
    for _, language, text in BLOCK.findall((DOCS / name).read_text()):
        if language in ("", "python"):
            ran = any(reason(name, command) is None for command in commands(text, language))
        assert ran or language != "text", text


def test_the_list_of_commands_that_are_not_run_has_nothing_else() -> None:
    for name, starts in NOT_RUN.items():
        for start in starts:
            pages = [name] if name else NAMES
            blocks = [block for page in pages for block in BLOCK.findall((DOCS / page).read_text())]
            assert any(command.startswith(start) for _, language, text in blocks for command in commands(text, language)), start
