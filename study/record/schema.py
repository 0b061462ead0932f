"""The tables of the record: their columns, and the versions of them that are read.

A shard says in its metadata which table and which schema version it is of. A version says which results there may be,
so whoever adds a column of results raises `SCHEMA_VERSION`; no column is ever dropped or given another type. Then
records are additive: in an earlier shard, a setting that came later has its default, for that is what it was run with,
and a result that came later is null. A shard of a later version, or with a setting that is unknown here, is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from study.errors import BadInputError
from study.settings import DEFAULTS as DEFAULT_SETTINGS
from study.settings import SETTINGS

SCHEMA_VERSION = 4


def column(name: str, kind: pa.DataType, description: str = "", unit: str = "") -> pa.Field:
    """Return a column that says what it has, and in which unit, to whoever reads a shard without this project.

    Records don't depend on it: shards with other descriptions, or with none, are read alike.
    """
    said = {"description": description, "unit": unit}
    return pa.field(name, kind, metadata={key: value for key, value in said.items() if value} or None)


def distribution(name: str, what: str) -> list[pa.Field]:
    """Return the columns on how a quantity is distributed over the channels of a layer."""
    return [
        column(f"{name}_mean", pa.float64(), f"The mean of {what} over its channels."),
        column(f"{name}_median", pa.float64(), "Their median."),
        column(f"{name}_q05", pa.float64(), "Their 5% quantile."),
        column(f"{name}_q95", pa.float64(), "Their 95% quantile."),
    ]


IDENTITY = [
    column("trial", pa.string(), "The trial's id: 16 hex digits of a hash over its settings."),
    column("member", pa.int32(), "The network's number in its trial, from 0: by seed, then by model."),
]
EPOCH = column("epoch", pa.int32(), "After how many epochs it was measured.", "epochs")
GROUP = "clean, or what S_out is called: corrupted (flipped labels), ood or natural."
LABEL = "The label that the network was trained with."
ORIGINAL = "The label before the flip; that of the sample itself where none was flipped."
FIT = [
    column("mem_acc", pa.float64(), "Memorization: the accuracy on S_out against its assigned labels.", "fraction"),
    column("mem_loss", pa.float64(), "The mean cross-entropy on S_out against its assigned labels.", "nats"),
    column("true_label_acc", pa.float64(), "The accuracy on S_out against the labels that it had.", "fraction"),
    column("clean_acc", pa.float64(), "The accuracy on the rest of the training set, S_in.", "fraction"),
    column("clean_loss", pa.float64(), "The mean cross-entropy on S_in.", "nats"),
    column("test_acc", pa.float64(), "The accuracy on the untouched test set.", "fraction"),
    column("test_loss", pa.float64(), "The mean cross-entropy on the test set.", "nats"),
    column("val_acc", pa.float64(), "The accuracy on the validation set, where there is one.", "fraction"),
    column("val_loss", pa.float64(), "The mean cross-entropy on the validation set.", "nats"),
]
SCHEMAS: Mapping[str, pa.Schema] = {
    "members": pa.schema(
        [
            *IDENTITY,
            column("cell", pa.string(), "The id of the trial without its seeds: the same for all members of a cell."),
            *(column(name, stated.arrow, stated.description, stated.unit) for name, stated in SETTINGS.items()),
            column("model", pa.int32(), "Its number among the models of its seed; 0 where there is one."),
            column("n_out", pa.int64(), "The size of S_out, or of what of it the network was trained on.", "samples"),
            column("n_in", pa.int64(), "The size of S_in, or of what of it the network was trained on.", "samples"),
            column("n_test", pa.int64(), "The size of the test set.", "samples"),
            column("n_val", pa.int64(), "The size of the validation set; 0 where there is none.", "samples"),
            column("parameters", pa.int64(), "How many trainable parameters the network has."),
            column(
                "epoch",
                pa.int32(),
                "The epoch of the measurement: the last, or that of early stopping or convergence.",
                "epochs",
            ),
            column("converged", pa.bool_(), "Whether it had converged by then, with stopping=converged."),
            *FIT,
            column("mia_auc", pa.float64(), "The AUC of membership inference by `mia_attack`.", "fraction"),
            column("mia_attack", pa.string(), "The attack: online LiRA with shadow models, else a threshold."),
            column("mia_tpr_at_1e3fpr", pa.float64(), "Its true positive rate at 0.1% false positives.", "fraction"),
            column("val_mia_auc", pa.float64(), "The AUC of a threshold on the validation set's scores.", "fraction"),
            column("gamma_over_sigma", pa.float64(), "gamma/sigma, averaged over channels and then over layers."),
            column("grad_norm_out", pa.float64(), "The mean l2 norm of single samples' gradients over S_out."),
            column("grad_norm_in", pa.float64(), "The same over S_in."),
            column("noise_acc", pa.float64(), "The test accuracy under noise, as its suite has it.", "fraction"),
            column("pgd_linf_acc", pa.float64(), "That under its suite's attack in the linf norm.", "fraction"),
            column("pgd_l2_acc", pa.float64(), "That under its suite's attack in the l2 norm.", "fraction"),
            column(
                "corruption_error",
                pa.float64(),
                "The mean error over the families and severities of corruptions.",
                "fraction",
            ),
            column("output_bits", pa.float64(), "The entropy of its outputs over D', each rounded to 7 bits.", "bits"),
            column("weight_norm", pa.float64(), "The l2 norm of its layers' weights."),
            column("status", pa.string(), "What came of it: ok, diverged or failed."),
            column("error", pa.string(), "Why it failed."),
            column("backend", pa.string(), "How members were trained side by side: single, grouped or vmap."),
            column("pack", pa.int32(), "How many were.", "models"),
            column("device", pa.string(), "The processor or GPU that trained it."),
            column("seconds", pa.float64(), "Its share of the time to train and measure its pack.", "seconds"),
            column("started", pa.timestamp("us", tz="UTC"), "When its pack was begun."),
            column(
                "git_commit",
                pa.string(),
                "The commit of normleak that trained it, or its version as installed.",
            ),
            column("git_dirty", pa.bool_(), "Whether files differed from that commit."),
            column("versions", pa.string(), "The versions of Python, torch and the like, as JSON."),
            column("schema_version", pa.int32(), "The version of the records' schema."),
        ]
    ),
    "epochs": pa.schema(
        [*IDENTITY, EPOCH, column("step", pa.int64(), "How many steps of the optimizer that were.", "steps"), *FIT]
    ),
    "layers": pa.schema(
        [
            *IDENTITY,
            EPOCH,
            column("layer", pa.string(), "The batch norm's name in the network."),
            column("depth", pa.int32(), "Its place among the batch norms, from 0 at the input."),
            column("channels", pa.int32(), "How many channels it has."),
            *distribution("ratio", "gamma/sigma"),
            *distribution("gamma", "the size of gamma"),
            *distribution("sigma", "sigma, by which it divides,"),
        ]
    ),
    "margins": pa.schema(
        [
            *IDENTITY,
            EPOCH,
            column("sample", pa.int64(), "Its place in D', from 0; the same samples for all arms of a seed."),
            column("group", pa.string(), GROUP),
            column("margin", pa.float64(), "Its margin: the label's logit less logsumexp of the others.", "nats"),
            column("grad_norm", pa.float64(), "The l2 norm of its gradient over all trainable parameters."),
        ]
    ),
    "gamma_gradients": pa.schema(
        [
            *IDENTITY,
            EPOCH,
            column("layer", pa.string(), "The batch norm's name in the network."),
            column("depth", pa.int32(), "Its place among the batch norms, from 0 at the input."),
            column("size_out", pa.float64(), "The size of one S_out sample's part of gamma's gradient, a mean."),
            column("size_in", pa.float64(), "The same of one sample of S_in."),
            column("share_out", pa.float64(), "The share of all of S_out in the sizes of all of D'.", "fraction"),
            column("push_out", pa.float64(), "How much one S_out sample's gradient descent adds to gamma's size."),
            column("push_in", pa.float64(), "The same of one sample of S_in."),
        ]
    ),
    "samples": pa.schema(
        [
            *IDENTITY,
            column("sample", pa.int64(), "Its place in D', from 0; the same for all arms of a seed."),
            column("group", pa.dictionary(pa.int8(), pa.string()), GROUP),
            column("label", pa.int32(), LABEL),
            column("original_label", pa.int32(), ORIGINAL),
            column("is_member", pa.bool_(), "Whether this network was trained on it."),
            column("score", pa.float32(), "The membership score phi: the label's logit less logsumexp of the others."),
            column("mirror_score", pa.float32(), "The same of the mirror image, with queries=mirror."),
            column("correct", pa.bool_(), "Whether the network gives it its label."),
            column("grad_norm", pa.float32(), "The l2 norm of its gradient over all trainable parameters."),
        ]
    ),
    "attacks": pa.schema(
        [
            *IDENTITY,
            column("attack", pa.string(), "The attack on this network as the target."),
            column("group", pa.string(), "The samples that are attacked: all, clean, or what S_out is."),
            column("auc", pa.float64(), "Its AUC, ties counted half.", "fraction"),
            column("balanced_acc", pa.float64(), "Its best balanced accuracy over all thresholds.", "fraction"),
            column(
                "tpr_at_1e2fpr",
                pa.float64(),
                "Its true positive rate at 1% false positives, as they are expected.",
                "fraction",
            ),
            column("tpr_at_1e3fpr", pa.float64(), "The same at 0.1%.", "fraction"),
            column("tpr_at_0fp", pa.float64(), "The same where no false positive is seen.", "fraction"),
            column("n_in", pa.int64(), "How many members of the training set were attacked.", "samples"),
            column("n_out", pa.int64(), "How many others.", "samples"),
        ]
    ),
    "robustness": pa.schema(
        [
            *IDENTITY,
            column("suite", pa.string(), "pixel, paper2019, corruptions, checks of pixel's attacks, or controls."),
            column("perturbation", pa.string(), "What was done to the test images."),
            column("norm", pa.string(), "linf or l2, in which an attack is bounded."),
            column("space", pa.string(), "pixel, for images in [0, 1], or standardized."),
            column("epsilon", pa.float64(), "How far an attack may go, or the standard deviation of noise."),
            column("step", pa.float64(), "How long a step of the attack is."),
            column("steps", pa.int32(), "How many there are.", "steps"),
            column("restarts", pa.int32(), "From how many random starts; 0 from the image itself."),
            column("loss", pa.string(), "What the attack climbs: ce, the cross-entropy, or margin."),
            column("clip_low", pa.float64(), "The least value of an image, where there is one."),
            column("clip_high", pa.float64(), "The largest."),
            column("severity", pa.int32(), "How strong a corruption is, from 1 to 5."),
            column("split", pa.string(), "Which images they are: test, cifar10_c for published ones, or cifar10.1."),
            column("source", pa.string(), "The other network that was attacked, whose images this one was shown."),
            column("n", pa.int64(), "How many images there are.", "samples"),
            column("acc", pa.float64(), "The accuracy on them.", "fraction"),
            column("clean_acc", pa.float64(), "The accuracy on the same images as they are.", "fraction"),
            column("top5", pa.float64(), "How often the label is among the five first classes.", "fraction"),
            column("loss_mean", pa.float64(), "The mean cross-entropy on them.", "nats"),
            column("flat", pa.float64(), "The share of images whose gradient is below 1e-6, in float32.", "fraction"),
            column("moved", pa.int64(), "How many values of all images are farther than epsilon from where they were."),
            column("max_distance", pa.float64(), "How far an image was moved at most, in the attack's norm."),
            column("seconds", pa.float64(), "The member's share of the time it took.", "seconds"),
            column("error", pa.string(), "Why the network could not be attacked."),
        ]
    ),
    "activations": pa.schema(
        [
            *IDENTITY,
            EPOCH,
            column("layer", pa.string(), "The name of the layer of which this is the output; input for the image."),
            column("batch", pa.int32(), "The sample's batch, from 0: batch norm sees those of a batch together."),
            column("sample", pa.int64(), "Its place in D', from 0."),
            column("label", pa.int32(), LABEL),
            column("x", pa.float64(), "Its output in the plane of the layer's two first principal components."),
            column("y", pa.float64(), "The second coordinate; of a layer of two units these are they."),
        ]
    ),
    "images": pa.schema(
        [
            column("trial", pa.string(), "The trial's id."),
            column("seed", pa.int64(), "The seed whose models are meant."),
            column("sample", pa.int64(), "Its place in D', from 0."),
            column("group", pa.string(), GROUP),
            column("label", pa.int32(), LABEL),
            column("original_label", pa.int32(), ORIGINAL),
            column("in_acc", pa.float64(), "The share of the models trained on it that give it its label.", "fraction"),
            column("out_acc", pa.float64(), "The share of the others that do.", "fraction"),
            column("image", pa.binary(), "The image, as PNG."),
        ]
    ),
}
TABLES: Mapping[str, str] = {
    "members": "One row a trained network: all of its settings, what was measured at its end, and where it comes from.",
    "epochs": "One row a network and evaluated epoch: the curves.",
    "layers": "One row a network, evaluated epoch and batch norm, epoch 0 before training too: gamma/sigma.",
    "margins": "One row a network, measured epoch and sample, some of S_out and of S_in, with mechanism.",
    "gamma_gradients": "One row a network, measured epoch and batch norm, with mechanism: what S_out does to gamma.",
    "samples": "One row a network and sample of D', with samples=scores or samples=gradients.",
    "attacks": "One row a target network, attack and group of samples, with protocol=splits.",
    "robustness": "One row a network and perturbation of the test images, at one strength, with robustness.",
    "activations": "One row a network, measured epoch, layer and sample of two batches, with activations.",
    "images": "One row an image, the most memorized ones of each seed, with protocol=splits.",
}
"""What a row of each table is."""
COMMIT = "members"
"""The table whose shard is written last, and so says that a trial is done."""
DEFAULTS: Mapping[str, Any] = {name: value for name, value in DEFAULT_SETTINGS.items() if name != "seed"}
"""What a setting was before there was one."""
EVER = {"trial", "member", "cell", "seed", "model", "status"}
"""The columns that a shard of any version has, if its table has them."""


def encode_table(table: str, rows: Sequence[Mapping[str, Any]] | pa.Table) -> bytes:
    """Return the rows of a table as a Parquet file of the current schema version.

    Args:
        table: its name.
        rows: a column that a row lacks is null.

    Raises:
        KeyError: a row has a column that the table doesn't.
    """
    schema = versioned_schema(table)
    content = rows if isinstance(rows, pa.Table) else _from_rows(table, rows, schema)
    # A few rows of many columns: read plain, they take a third of the time, which counts where there are thousands.
    plain = table == COMMIT
    sink = pa.BufferOutputStream()
    pq.write_table(content.cast(schema), sink, compression="none" if plain else "zstd", use_dictionary=not plain)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def versioned_schema(table: str) -> pa.Schema:
    """Return the schema of a file of a table, which says what it is."""
    return SCHEMAS[table].with_metadata({"normleak_table": table, "normleak_schema_version": str(SCHEMA_VERSION)})


def conform_to_schema(table: str, rows: pa.Table, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows with the columns of a table, or with some of them in that order, each of its type.

    A setting that the rows lack has its default; any other column that they lack is null.
    """
    names = SCHEMAS[table].names if columns is None else list(columns)
    for name in set(names) - set(rows.column_names):
        default = DEFAULTS.get(name) if table == COMMIT else None
        rows = rows.append_column(name, pa.array([default] * len(rows), SCHEMAS[table].field(name).type))
    schema = SCHEMAS[table] if columns is None else pa.schema([SCHEMAS[table].field(name) for name in names])
    return rows.select(names).cast(schema)


def describe_columns(table: str, rows: pa.Table) -> pa.Table:
    """Return the rows with this version's description of each column, whatever their shards say of it."""
    return pa.Table.from_arrays(
        rows.columns, schema=pa.schema([SCHEMAS[table].field(name) for name in rows.schema.names])
    )


def check_schema(path: str, table: str, schema: pa.Schema) -> None:
    """Refuse a file that is no shard of a table, or of a version that is not read.

    Args:
        path: the file's, for the message.
        table: what it is to be a shard of.
        schema: the file's.

    Raises:
        BadInputError: it says why.
    """
    stored = schema.metadata or {}
    metadata = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in stored.items()}
    version = metadata.get("normleak_schema_version", "")
    if metadata.get("normleak_table") != table or not version.isdecimal():
        raise BadInputError(f"the shard {path!r} is no record of {table}; move it out of the results folder.")
    check_version("shard", path, int(version))
    expected = SCHEMAS[table]
    if schema.equals(expected):
        return
    known = all(field.name in expected.names and field.type == expected.field(field.name).type for field in schema)
    missing = set(expected.names) - set(schema.names)
    may_be_missing = set(DEFAULTS) if int(version) == SCHEMA_VERSION else set(expected.names) - EVER
    if not known or not missing <= may_be_missing:
        raise BadInputError(f"the shard {path!r} says schema version {version} but has other columns; move it away.")


def versioned(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a plan or a manifest with the current schema version."""
    return {**content, "schema_version": SCHEMA_VERSION}


def check_version(kind: str, path: str, version: object) -> None:
    """Refuse a file of a later schema version.

    Args:
        kind: what the file is, for the message.
        path: the file's, for the message.
        version: what it says.

    Raises:
        BadInputError: that is later, or no version.
    """
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise BadInputError(
            f"the {kind} {path!r} has schema version {version}, this normleak reads {SCHEMA_VERSION}; "
            f"use the normleak that wrote it, or another results folder."
        )


def _from_rows(table: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    strange = {name for row in rows for name in row} - set(schema.names)
    if strange:
        raise KeyError(f"{table} has no column {', '.join(sorted(strange))}")
    stamp = {"schema_version": SCHEMA_VERSION} if "schema_version" in schema.names else {}
    return pa.Table.from_pylist([{**row, **stamp} for row in rows], schema=schema)
