"""Draw a figure, and print what it says about the paper's claims.

    python scripts/figure.py experiment=fig1 figure.beta=5        # theory: computed here, from figure.* alone
    python scripts/figure.py experiment=fig6                      # from the records of finished runs
    python scripts/figure.py experiment=fig6 surrogate.beta=5     # the runs that train.py made with the same overrides
    python scripts/figure.py experiment=fig7 records=reference    # from records that come with the package
    python scripts/figure.py experiment=fig7 records=FOLDER       # from all finished runs in a folder

Writes NAME.png, NAME.pdf and NAME.json (every number drawn, the claims, and how they were made) into the folder that
output=FOLDER names (figures), and says in one line how it compares with figures/published. Prints a line for each
claim; with --long also what was measured and what is expected.
The settings of a figure and their units are in conf/experiment/NAME.yaml.
"""

import importlib
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from sgtheory.command import report_errors, take
from sgtheory.errors import ParameterError, UserError, first_line
from sgtheory.figures import save_figure
from sgtheory.reading import read_json
from sgtheory.report import against_published, provenance, show_claims
from sgtheory.threads import use_threads
from sgtheory.training import FINISHED, Run, expand, figure_settings, find_run, load_run

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "data" / "reference"
PUBLISHED = ROOT / "figures" / "published"


def main(arguments: list[str]) -> None:
    use_threads(1)  # the tensors are small, and how a sum is divided among threads changes its last digits
    own, overrides = take(("output", "records"), [argument for argument in arguments if argument != "--long"])
    output, records = own.get("output", "figures"), own.get("records")
    if words := [word for word in overrides if "=" not in word and not word.startswith("~")]:
        raise UserError(f"{words[0]!r} is not an argument of this command: KEY=VALUE, for example experiment=fig1")
    configs = expand(overrides)
    name, figure = configs[0].experiment, configs[0].figure
    if not name or not OmegaConf.is_dict(figure):
        raise UserError("say which figure: python scripts/figure.py experiment=fig6")
    try:
        module = importlib.import_module(f"sgtheory.figures.{figure.module}")
    except ModuleNotFoundError:
        raise UserError(f"figure.module = {figure.module}: there is no such module in sgtheory.figures") from None
    settings = figure_settings(figure, module.measure)
    said = [f"records={Path(records).name}"] if records else []
    if any((config.experiment, config.figure) != (name, figure) for config in configs):
        raise UserError(f"a figure needs one experiment ({name}), and one value for every setting figure.*")
    if not figure.trained:
        refuse_others(overrides + said, f"{name} follows from figure.* in conf/experiment/{name}.yaml")
        runs = []
    elif records:
        refuse_others(overrides, f"the runs in records={records} are drawn as they are; figure.* changes the drawing")
        runs = recorded_runs(name, records)
    else:
        runs = finished_runs(configs, overrides)
    try:
        numbers = module.measure(runs, **settings) if figure.trained else module.measure(**settings)
        claims = module.claims(numbers)
        made = {"claims": claims, "provenance": provenance(overrides + said, settings, runs)}
        paths = save_figure(name, module.draw, numbers | made, output)
    except ParameterError as error:
        raise ParameterError(f"{name}: {error.name}", error.value, error.allowed) from None
    except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError) as error:
        if changed := [override for override in overrides if "figure." in override]:
            raise UserError(f"{name} cannot be drawn with {' '.join(changed)}: {first_line(error)}") from None
        if records:  # of anywhere
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise UserError(f"records={records}: {name} cannot be drawn from these runs ({reason})") from None
        raise
    show_claims(claims, "--long" in arguments)
    print(*paths, sep="\n")
    candidates = [PUBLISHED / f"{each}.json" for each in (name, figure.module)]
    if published := next(
        (path for path in candidates if path.is_file() and path.resolve() != paths[-1].resolve()), None
    ):
        print(against_published(read_json(paths[-1], "the numbers of a figure"), published))


def finished_runs(configs: list[DictConfig], overrides: list[str]) -> list[Run]:
    missing = [run for config in configs if not ((run := find_run(config)) / FINISHED).is_file()]
    if missing:
        command = f"python scripts/train.py -m {' '.join(overrides)}"
        raise UserError(f"{len(missing)} of {len(configs)} runs are not finished ({missing[0]} ...): run {command}")
    return [load_run(find_run(config)) for config in configs]


def recorded_runs(figure: str, records: str) -> list[Run]:
    """All finished runs in a folder, or in the package's own reference records of a figure."""
    folder = reference_records(figure) if records == "reference" else Path(records)
    found = sorted(path.parent for path in folder.rglob(FINISHED))
    if not found:
        raise UserError(f"records={records}: there are no finished runs of {figure} in {folder}")
    return [load_run(directory) for directory in found]


def reference_records(figure: str) -> Path:
    """Those at the scale of the paper, if there are some."""
    paper = REFERENCE / f"{figure}_paper"
    return paper if paper.is_dir() else REFERENCE / figure


def refuse_others(overrides: list[str], reason: str) -> None:
    """An override of anything but the figure's own settings, where nothing else is computed, is a mistake."""
    for override in overrides:
        if not override.lstrip("+").startswith(("experiment=", "figure.")):
            raise UserError(f"{override} changes nothing: {reason}")


if __name__ == "__main__":
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__.strip())
    else:
        with report_errors():
            main(sys.argv[1:])
