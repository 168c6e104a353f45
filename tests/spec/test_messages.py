"""What a person reads about one wrong value: its path, its place, and what is needed instead."""

from pathlib import Path

import pytest

from tests.spec.specs import GOOD, problems_of
from tokexp.spec.schema import kinds

MEASURES = [name for name, _ in kinds()["evaluate"]]
ONE_OF_THEM = f"{', '.join(MEASURES[:-1])} or {MEASURES[-1]}"


def _one(folder: Path, old: str, new: str) -> tuple[int | None, int | None, str, str]:
    assert GOOD.count(old) == 1, old
    problems = problems_of(folder, GOOD.replace(old, new))
    assert len(problems) == 1, [str(problem) for problem in problems]
    return problems[0].line, problems[0].column, problems[0].path, problems[0].message


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "path", "message"),
    [
        ("codebook_size: 64", "codebook_size: 0", 4, 63, "tokenizer.codebook_size",
         "0 given; a whole number from 2 to 65536 is needed"),
        ("codebook_size: 64", "codebook_sise: 64", 4, 48, "tokenizer.codebook_sise",
         "unknown field; did you mean codebook_size?"),
        ("mask: {low: 0.4}", "mask_ratio: 0.4", 21, 3, "objective.mask_ratio",
         "unknown field here; it exists as objective.mask.low"),
        ("preset: paper", "lr: 1", 20, 3, "objective.lr", "unknown field here; it exists as objective.train.lr"),
        ("{kind: conv2x2}", "{kind: conv2x2, heads: 4}", 6, 73, "model.stem.heads",
         "unknown field here; it exists as model.heads"),
        ("track: {enabled", "tracc: {enabled", 32, 1, "tracc", "unknown field; did you mean track?"),
        ("lr: 1.5e-3", "lr: 1e-3", 22, 44, "objective.train.lr",
         "YAML reads 1e-3 as text; write 1.0e-3; a number above 0 and of at most 100 is needed"),
        ("lr: 1.5e-3", "lr: '0.1'", 22, 44, "objective.train.lr",
         "the text '0.1' given; write it without quotes; a number above 0 and of at most 100 is needed"),
        ("epochs: 60", "epochs: six", 22, 19, "objective.train.epochs",
         "the text 'six' given; a whole number from 1 to 100000 is needed"),
        ("epochs: 60", "epochs: 1.5", 22, 19, "objective.train.epochs",
         "1.5 given; a whole number from 1 to 100000 is needed"),
        ("name: good", "name: no", 2, 7, "name", "false given; text is needed"),
        ("enabled: false", "enabled: 0", 32, 18, "track.enabled", "0 given; true or false is needed"),
        ("sometimes: 0.5", "sometimes: 2", 16, 18, "augment.task.1.sometimes",
         "2 given; a number from 0 to 1 is needed"),
        ("{kind: digits}", "{kind: digit}", 3, 14, "data.kind",
         "unknown kind 'digit'; allowed: digits, image_folder, torchvision, seit_release, token_store; "
         "did you mean digits?"),
        ("{kind: clean}", "{}", 27, 3, "evaluate.clean.kind", f"kind is missing; one of {ONE_OF_THEM} is needed"),
        ("{kind: clean}", "clean", 27, 10, "evaluate.clean",
         f"'clean' given; a block with a kind ({', '.join(MEASURES)}) is needed"),
        ("kind: vit, ", "", 6, 1, "model.kind", "kind is missing; one of vit, swin, pvt_v2 or mlp is needed"),
        ("name: gaussian_noise, ", "", 28, 3, "evaluate.noise.name",
         "missing; one of gaussian_noise or gaussian_blur is needed"),
        ("gaussian_noise", "gausian_noise", 28, 35, "evaluate.noise.name",
         "'gausian_noise' given; one of gaussian_noise or gaussian_blur is needed; did you mean gaussian_noise?"),
        ("scale: [0.5, 1.0]", "scale: [0.5]", 10, 30, "augment.pretrain.0.halves.0.0.scale.1", None),
        ("scale: [0.5, 1.0]", "scale: [0.5, x]", 10, 43, "augment.pretrain.0.halves.0.0.scale.1",
         "the text 'x' given; a number above 0 and of at most 1 is needed"),
        ("scale: [0.5, 1.0]", "scale: [1.0, 0.5]", 10, None, "augment.pretrain.0.halves.0.0",
         "scale: [1.0, 0.5] given; two positive numbers, the smaller first, are needed"),
        ("seeds: [0, 1]", "seeds: []", 29, 1, "seeds",
         "a list of 0 given; a list of whole numbers, not empty, is needed"),
        ("seeds: [0, 1]", "seeds: [0, -1]", 29, 12, "seeds.1", None),
        ("memory: 4 GB", "memory: 4 GX", 31, 39, "resources.default.memory",
         "'4 GX' given; a number with one of the units B, kB, MB, GB, TB, KiB, MiB, GiB, TiB is needed"),
        ("memory: 4 GB", "memory: 1.5", 31, 39, "resources.default.memory",
         "1.5 given; a whole number of bytes, or text such as '64 GB', is needed"),
        ("default: {gpus", "defautl: {gpus", 31, 3, "resources.defautl", None),
        ("finetune: {kind", "Fine-tune: {kind", 24, 3, "tasks.Fine-tune",
         "'Fine-tune' cannot name a part; write lower-case letters, digits and '_', a letter first"),
        ("name: good", "name: a/b", 2, 7, "name",
         "'a/b' given; letters, digits, '_', '.' and '-' are needed, a letter or digit first"),
        ("warmup: 5 epochs", "warmup: 5 hours", 24, 70, "tasks.finetune.train.warmup",
         "'5 hours' given; a fraction such as 0.1, or text such as '5 epochs' or '500 steps' is needed"),
        ("epochs: 60,", "epochs: 60, steps: 5,", 22, 3, "objective.train", "give epochs or steps, not both"),
        ("heads: 4", "heads: 5", 6, 1, "model", "heads (5) must divide width (96)"),
        ("schema: 1", "schema: 2", 1, 9, "schema", "2 given; 1 is needed"),
        ("schema: 1", "schema: true", 1, 9, "schema", "the version of the language is needed; write 1"),
        ("schema: 1\n", "", 1, 1, "schema", "missing; write `schema: 1` at the top"),
        ("data: {kind: digits}\n", "", 1, 1, "data",
         "missing; a block with a kind (digits, image_folder, torchvision, seit_release, token_store) is needed"),
        ("[{kind: token_cutmix}]", "[{kind: token_cutmx}]", 17, 19, "augment.task.1.do.0.kind", None),
        ("mask: {low: 0.4}", "mask: 5", 21, 9, "objective.mask", "5 given; a block of fields is needed"),
        ("tasks:\n", "tasks: &t\n", 0, 0, "", None),
        ("seeds: [0, 1]", "seeds: [0, 1, 0]", 29, 15, "seeds.2", "0 is written twice; keep one of them"),
        ("memory: 4 GB", f"memory: {'9' * 400} GB", 31, 39, "resources.default.memory", None),
        ("time: 30 min", f"time: {'9' * 400} d", 31, 51, "resources.default.time", None),
        ("memory: 4 GB", "memory: \u0664 GB", 31, 39, "resources.default.memory",
         "'\u0664 GB' given; a number with one of the units B, kB, MB, GB, TB, KiB, MiB, GiB, TiB is needed"),
        ("tokenizer: {kind", "t\u043ekenizer: {kind", 4, 1, "t\u043ekenizer",
         "unknown field; did you mean tokenizer? (U+043E stands in what is given)"),
        ("{kind: digits}", "{kind: dig\u0456ts}", 3, 14, "data.kind",
         "unknown kind 'dig\u0456ts'; allowed: digits, image_folder, torchvision, seit_release, token_store; "
         "did you mean digits? (U+0456 stands in what is given)"),
        ("{kind: clean}", "{kind: clean, name: x}", 27, 24, "evaluate.clean.name", None),
    ],
)  # fmt: skip
def test_one_wrong_value_gives_one_message_at_its_place(
    tmp_path: Path, old: str, new: str, line: int, column: int | None, path: str, message: str | None
) -> None:
    if line == 0:
        assert problems_of(tmp_path, GOOD.replace(old, new)) == []
        return
    found = _one(tmp_path, old, new)
    assert found[2] == path
    assert found[0] == line
    assert column is None or found[1] == column
    assert message is None or found[3] == message


def test_a_wrong_value_inside_a_quantiser_is_found_at_its_path(tmp_path: Path) -> None:
    text = GOOD.replace("{kind: patch_kmeans, patch_size: 2, codebook_size: 64}",
                        "{kind: vqvae, quantizer: {kind: ema, codebook_size: 1, decai: 0.5}}")  # fmt: skip
    found = [(problem.path, problem.column) for problem in problems_of(tmp_path, text)]
    assert found == [("tokenizer.quantizer.codebook_size", 64), ("tokenizer.quantizer.decai", 67)]


@pytest.mark.parametrize("kind", ["{a: 1}", "[patchify]", "5"])
def test_a_stem_whose_kind_is_no_word_is_one_problem_in_a_model_with_patches_of_its_own(
    tmp_path: Path, kind: str
) -> None:
    model = f"{{kind: swin, width: 16, depths: [1, 1], heads: [2, 2], window: 2, stem: {{kind: {kind}}}}}"
    text = GOOD.replace("{kind: vit, width: 96, depth: 4, heads: 4, stem: {kind: conv2x2}}", model)
    # mtm cannot hide patches that such a model merges.
    assert [problem.path for problem in problems_of(tmp_path, text)] == ["model.stem.kind", "objective.kind"]


def test_a_word_of_another_tool_is_understood(tmp_path: Path) -> None:
    assert _one(tmp_path, "lr: 1.5e-3", "learning_rate: 1.5e-3")[3] == "unknown field; did you mean lr?"


def test_all_problems_come_at_once_in_reading_order(tmp_path: Path) -> None:
    text = GOOD.replace("codebook_size: 64", "codebook_size: x").replace("heads: 4", "head: 4")
    text = text.replace("lr: 1.5e-3", "lr: 1e-3").replace("severity: 3", "severity: 9")
    lines = [problem.line for problem in problems_of(tmp_path, text, ["seeds=[]"])]
    assert lines == [4, 6, 22, 28, None]


@pytest.mark.parametrize(("policy", "words"), [("{kind: mixup}", "write [{kind: ...}]"), ("mixup", "a list of steps")])
def test_a_policy_that_is_no_list_is_told_to_be_one(tmp_path: Path, policy: str, words: str) -> None:
    head, rest = GOOD.split("augment:")
    text = f"{head}augment: {policy}\nobjective:{rest.split('objective:')[1]}"
    problems = problems_of(tmp_path, text)
    assert [problem.path.split(".")[0] for problem in problems] == ["augment"]
    assert words in problems[0].message


def test_one_policy_for_both_phases_is_complained_about_once(tmp_path: Path) -> None:
    head, rest = GOOD.split("augment:")
    text = f"{head}augment: [{{kind: mixup, alpha: -1}}]\nobjective:{rest.split('objective:')[1]}"
    problems = problems_of(tmp_path, text)
    assert [problem.path for problem in problems] == ["augment.0.alpha"]


def test_a_faulty_value_does_not_cause_a_second_complaint(tmp_path: Path) -> None:
    text = GOOD.replace("width: 96", "width: ninety").replace("heads: 4", "heads: 5")
    assert [problem.path for problem in problems_of(tmp_path, text)] == ["model.width"]


def test_a_faulty_value_does_not_hide_an_impossible_combination_elsewhere(tmp_path: Path) -> None:
    text = GOOD.replace("epochs: 60", "epochs: x").replace("patch_size: 2", "patch_size: 3")
    paths = {problem.path for problem in problems_of(tmp_path, text)}
    assert paths >= {"objective.train.epochs", "tokenizer.patch_size"}


def test_a_long_value_is_shortened(tmp_path: Path) -> None:
    text = GOOD.replace("kind: digits", "kind: " + "x" * 5000)
    assert len(problems_of(tmp_path, text)[0].message) < 250


def test_a_fault_in_a_list_does_not_hide_a_missing_part_of_its_neighbour(tmp_path: Path) -> None:
    steps = "augment:\n  task:\n    - {kind: token_rcc}\n    - halves: [[{kind: mixup}]]\n"
    body = "schema: 1\ndata: {kind: digits}\ntokenizer: {kind: patch_kmeans}\ntasks: {a: {kind: classify}}\n"
    assert [problem.path for problem in problems_of(tmp_path, body + steps)] == [
        "augment.task.0.kind", "augment.task.1.halves.1",
    ]  # fmt: skip
