"""The audit of a HAP data set: its table, its counts, and the page of pairs."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asap_train.hap import to_row
from asap_train.hap.manifest import Details
from asap_train.hap.write import open_hap
from asap_train.reporting.audit import audit, print_audit, to_json
from asap_train.reporting.contact_sheet import build_page, close_up, sample, show
from hafbench.errors import HafError
from hap_pairs import mannequin, painted, write

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
EVIL = "<script>alert(1)</script>"


def measured(folder: Path, values: list[tuple[int, float, float | None]]) -> None:
    """A data set whose pairs have these photos, SSIM inside and LPIPS inside."""
    with open_hap(folder, {}) as hap:
        for number, (photo, ssim, lpips) in enumerate(values):
            pair = painted(number, photo=photo)
            pair = replace(pair, similarity=replace(pair.similarity, ssim_in=ssim, lpips_in=lpips))
            hap.add(str(number), [to_row(pair)], [("area", "M covers 0.10 % of the picture: below 0.20 %")])
        hap.finish()


def test_the_interval_takes_the_pairs_of_a_photo_together(tmp_path: Path) -> None:
    """By hand: residual sums of three photos -0.4, 0 and 0.4, so se = sqrt(3/2 * 0.32) / 6, and t(2) = 4.302653."""
    measured(tmp_path, [(0, 0.2, 0.3), (0, 0.2, 0.3), (1, 0.4, 0.3), (1, 0.4, None), (2, 0.6, None), (2, 0.6, None)])
    ssim, lpips, outside, nothing = audit(tmp_path).lines
    assert (ssim.metric, ssim.reported, ssim.mean.n) == ("SSIM inside M", 0.5315, 6)
    assert ssim.mean.estimate == pytest.approx(0.4)
    half = 4.302653 * (1.5 * 0.32) ** 0.5 / 6
    assert (ssim.mean.low, ssim.mean.high) == pytest.approx((0.4 - half, 0.4 + half), abs=1e-6)
    assert lpips.mean.n == 3 and lpips.mean.estimate == pytest.approx(0.3)
    assert (outside.metric, outside.reported, outside.mean.estimate) == ("SSIM outside M", 0.9827, 1.0)
    assert (nothing.metric, nothing.mean.n, nothing.mean.estimate) == ("LPIPS outside M", 0, None)


def test_counts_are_of_the_pairs_and_of_what_was_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured(tmp_path, [(number, 0.5, None) for number in range(7)])
    found = audit(tmp_path)
    assert found.counts.detail == {"extra_digit": 3, "missing_digit": 2, "missing_arm": 2}
    assert found.counts.region == {"hands": 5, "limbs": 2}
    assert found.rejections["area"].count == 7
    assert found.skipped["inside_lpips"].pairs == 7
    assert json.loads(json.dumps(to_json(found)))["lines"][0]["mean"]["n"] == 7
    print_audit(found, tmp_path / "page.html")
    said = capsys.readouterr().out
    for words in ("0.5315", "not measured", "extra_digit 3", "gate inside_lpips not applied to 7 pairs", "area: 7"):
        assert words in said


def test_families_are_told_apart_where_there_are_several(tmp_path: Path) -> None:
    write(tmp_path, [painted(0), painted(1), mannequin(700_000)])
    families = audit(tmp_path).families
    assert set(families) == {"painted", "mannequin"}
    assert families["painted"][0].mean.n == 2


def test_a_set_without_pairs_is_said_to_be_one(tmp_path: Path) -> None:
    with open_hap(tmp_path, {}) as hap:
        hap.add("a", [], [("photo", "it shows no person")])
        hap.finish()
    with pytest.raises(HafError, match="has no pairs: see the rejections"):
        audit(tmp_path)
    with pytest.raises(HafError, match="is not a HAP data set"):
        audit(tmp_path / "data")


def test_the_page_is_self_contained_and_escaped(tmp_path: Path) -> None:
    pairs = [painted(number, caption=f"{EVIL} {number}") for number in range(4)]
    write(tmp_path / "hap", [replace(pair, name=f'a"{EVIL}') for pair in pairs], details=Details(title=EVIL))
    page = build_page(audit(tmp_path / "hap"), tmp_path / "hap", tmp_path / "out" / "index.html").read_text()
    assert EVIL not in page
    assert len(re.findall(r"&lt;script&gt;alert\(1\)&lt;/script&gt; \d", page)) == 4
    assert page.count('src="data:image/webp;base64,') == 16
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "default-src 'none'" in page


def test_the_pairs_shown_are_spread_over_details_and_always_the_same(tmp_path: Path) -> None:
    write(tmp_path, [painted(3 * number) for number in range(20)] + [painted(1), painted(4), painted(2)])
    shown = [pair.detail for pair in sample(tmp_path, 6)]
    assert sorted(shown) == ["extra_digit"] * 3 + ["missing_arm"] + ["missing_digit"] * 2
    assert [pair.id for pair in sample(tmp_path, 6)] == [pair.id for pair in sample(tmp_path, 6)]
    page = build_page(audit(tmp_path), tmp_path, tmp_path / "page.html", most=6).read_text()
    assert "17 more are in the shards" in page


@given(st.integers(20, 300), st.integers(20, 300), st.data())
def test_the_close_up_is_a_square_within_the_picture_that_holds_the_mask(h: int, w: int, data: st.DataObject) -> None:
    y, x = data.draw(st.integers(0, h - 1)), data.draw(st.integers(0, w - 1))
    mask = np.zeros((h, w), np.bool_)
    mask[y : y + data.draw(st.integers(1, h)), x : x + data.draw(st.integers(1, w))] = True
    x1, y1, x2, y2 = close_up(mask)
    assert 0 <= x1 < x2 <= w
    assert 0 <= y1 < y2 <= h
    assert mask[y1:y2, x1:x2].sum() == mask.sum()
    assert x2 - x1 == y2 - y1 or (x2 - x1, y2 - y1) == (w, h)


def test_the_difference_is_amplified_and_the_mask_is_drawn() -> None:
    import base64
    import io

    from PIL import Image

    pair = painted(0)
    loser = pair.winner.copy()
    loser[pair.mask] = np.clip(loser[pair.mask].astype(int) + 20, 0, 255)
    shown = show(replace(pair, loser=loser))

    def decoded(uri: str) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")).astype(int)

    difference = decoded(shown.difference)
    assert np.quantile(difference, 0.9) == pytest.approx(80, abs=12)
    assert np.quantile(difference, 0.1) < 12
    assert decoded(shown.place)[..., 0].mean() > decoded(shown.place)[..., 2].mean() + 8


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_the_page_works_in_a_browser(tmp_path: Path) -> None:
    write(tmp_path / "hap", [painted(number) for number in range(5)])
    page = build_page(audit(tmp_path / "hap"), tmp_path / "hap", tmp_path / "index.html")
    words = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--virtual-time-budget=2000"]
    done = subprocess.run([*words, page.as_uri()], capture_output=True, text=True, timeout=120)
    assert 'data-ready="yes"' in done.stdout
    assert "5 of 5 shown" in done.stdout
