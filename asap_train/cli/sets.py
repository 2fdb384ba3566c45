"""`asap-train audit`, `validate`, `export` and `import`: what one does with a data set that is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hafbench.cli.options import USER_ERROR, Json, Quiet

Folder = Annotated[Path, typer.Argument(metavar="HAP", help="A data set of `asap-train synth`, or its address.")]
Made = Annotated[Path, typer.Option("--out", metavar="DIR", help="The data set, or its address; run again to resume.")]
Split = Annotated[
    str | None, typer.Option("--split", metavar="NAME", help="train, validation or test; default: all pairs.")
]


def audit(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page; default: HAP/audit.html.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print similarity inside and outside of M against the paper's, and counts; write a contact sheet as a page."""
    from asap_train.hap.manifest import LAYOUT
    from asap_train.reporting import audit as auditing
    from asap_train.reporting.contact_sheet import build_page
    from hafbench.stores import reading_copy

    there = reading_copy(folder, LAYOUT)
    found = auditing.audit(there)
    page = build_page(found, there, out or (folder if folder == there else Path()) / "audit.html")
    if as_json:
        typer.echo(json.dumps(auditing.to_json(found) | {"page": str(page)}, indent=2))
    elif not quiet:
        auditing.print_audit(found, page)


def validate(folder: Folder, as_json: Json = False) -> None:
    """Look at every row: broken shards and images, wrong masks and ids, duplicates, photos in two splits."""
    from asap_train.hap.manifest import LAYOUT
    from asap_train.hap.read import read_hap
    from asap_train.hap.validate import validate as problems_of
    from hafbench.stores import reading_copy, shown

    there = reading_copy(folder, LAYOUT)
    problems = problems_of(there)
    if as_json:
        typer.echo(json.dumps({"problems": problems}, indent=2))
    else:
        pairs = read_hap(there).counts.pairs
        typer.echo(
            f"{pairs} pairs in {shown(folder)}: {len(problems) or 'no'} problem{'' if len(problems) == 1 else 's'}."
        )
    for problem in problems:
        typer.echo(f"asap-train: {problem}", err=True)
    if problems:
        raise typer.Exit(USER_ERROR)


def export_(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The Parquet file to write.")],
    split: Split = None,
    as_json: Json = False,
) -> None:
    """Write pairs as jpg_0, jpg_1, label_0 and caption, with the mask beside them, for other trainers."""
    from asap_train.hap.exchange import export_pairs
    from asap_train.hap.manifest import LAYOUT
    from hafbench.stores import check_local, reading_copy

    check_local(out, "file of pairs")
    count = export_pairs(reading_copy(folder, LAYOUT), out, split)
    typer.echo(json.dumps({"out": str(out), "pairs": count}) if as_json else f"{count} pairs in {out}")


def import_(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A Parquet file of such pairs, or a folder of them.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The data set to write, or an address.")],
    gates: Annotated[bool, typer.Option("--gates/--no-gates", help="Apply the gates to the imported pairs.")] = True,
    licence: Annotated[str, typer.Option("--licence", metavar="NAME", help="Of the pairs, for the card.")] = "unknown",
    as_json: Json = False,
) -> None:
    """Take over pairs of Diffusion-DPO's format; without a mask, M is where the two images differ clearly."""
    from asap_train.data.gates import Gates
    from asap_train.data.spec import Thresholds
    from asap_train.hap.exchange import import_pairs
    from asap_train.hap.manifest import Details
    from hafbench.mirrors import check_out
    from hafbench.stores import shown

    check_out(out)
    thresholds = Thresholds()
    details = Details(licence=licence, about=(f"The pairs were imported from {source.name}.",))
    lpips = Gates(thresholds).lpips
    manifest = import_pairs(source, out, details=details, thresholds=thresholds if gates else None, lpips=lpips)
    if as_json:
        typer.echo(
            json.dumps({"out": shown(out), **manifest.model_dump(mode="json", include={"counts", "rejections"})})
        )
    else:
        typer.echo(f"{manifest.counts.pairs} pairs in {shown(out)}; {manifest.counts.rejected} were left out.")
        for gate, rejected in manifest.rejections.items():
            typer.echo(f"  {rejected.count:6d}  {gate}: {next(iter(rejected.reasons))}")
