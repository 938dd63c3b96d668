"""Wrong input to `jaxmicro study`: one line that says what is allowed; nothing is left behind."""

import socket

import pytest

from jaxmicro.app.study import cluster


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    model = '[mixture]\nclasses = 2\n[foreground]\nrule = "brightest"\n'
    (folder / "two.toml").write_text(model)
    return folder


@pytest.fixture(scope="module")
def words(phantom, place):
    movie, plan = phantom / "movie.tif", place / "two.toml"
    return ("study", movie, plan, "--rates", "0.3", "--replicates", 3, "--frames", "1:5")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("--rates", "0"), "rate 0 is not allowed"),
        (("--rates", "1"), "rate 1 is not allowed; it is the share of pixels visited"),
        (("--rates", "5"), "for 5 percent write 5%"),
        (("--rates", "0.3,0.3"), "--rates holds 0.3 twice"),
        (("--rates", "30%", "--rates", "0.3"), "--rates holds 0.3 twice"),
        (
            ("--rates", "movie.tif"),
            "models stand before --rates",
        ),
        (("--rates", ","), "--rates is empty"),
        (("--rates", "0.001"), "rate 0.001 leaves 4 of 4096 pixels of a frame"),
        (("--rates", "0.3", "--replicates", "0"), "--replicates 0 is not allowed; use auto"),
        (("--rates", "0.3", "--replicates", "many"), "--replicates many is not allowed"),
        (("--rates", "0.3", "--pattern", "spiral"), "pattern 'spiral' is not known"),
        (("--rates", "0.3", "--estimator", "guess"), "--estimator 'guess' is not known"),
        (("--rates", "0.3", "--estimator", "count", "--estimator", "count"), "two plans are"),
        (("--rates", "0.3", "--workers", "0"), "--workers is a number from 1"),
        (("--rates", "0.3", "--workers", "2", "--scheduler", "tcp://x:1"), "does not go with"),
        (("--rates", "0.3", "--truth", "nothing.csv"), "--truth nothing.csv cannot be read"),
    ],
)
def test_wrong_input_is_one_line(run, phantom, place, tmp_path, wrong, said):
    out = tmp_path / "out"
    status, _, err = run("study", phantom / "movie.tif", place / "two.toml", *wrong, "--out", out)
    assert status in (1, 2)
    assert said in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_paper_s_vote_goes_with_counts_alone(run, phantom, tmp_path):
    status, _, err = run(
        "study", phantom / "movie.tif", "paper", "--rates", 0.3, "--estimator", "difference",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert status == 2
    assert "plan paper_difference: estimator 'difference' adds up class probabilities" in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("frame,size\n0,1\n", "has the columns frame, size; a column frame and one of area_px"),
        ("frame,area_px\n1,10\n", "does not say area_px of frame 2 of the movie"),
        ("frame,area_px\n1,10\n2,\n3,4\n4,4\n", "does not say area_px of frame 2"),
    ],
)
def test_a_truth_that_says_too_little_is_refused(run, words, tmp_path, text, said):
    (tmp_path / "truth.csv").write_text(text)
    status, _, err = run(*words, "--truth", tmp_path / "truth.csv", "--out", tmp_path / "out")
    assert status == 1
    assert said in err


def test_a_scheduler_that_does_not_answer(run, words, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_S", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    status, _, err = run(*words, "--scheduler", address, "--out", tmp_path / "out")
    assert status == 1
    assert f"--scheduler {address} does not answer" in err
    assert list(tmp_path.iterdir()) == []
