"""Hugging Face `datasets`, in and out: hub datasets and local folders become rows, records become shards.

The hub is contacted only by `open_dataset` for a name that is no local folder, and by `upload`. A token is
taken by huggingface_hub from its own login or environment; nothing here reads, keeps or prints one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from alignment.data.files import Paths, RecordWriter, Written, data_files, decode_block, read_blocks
from alignment.data.pairs import MODELS
from alignment.data.parquet import ParquetSink, arrow_cleaner
from alignment.data.records import Record, decode_record, nearest
from alignment.data.views import VIEWS
from alignment.errors import UserError

SHARD_BYTES = 1 << 29  # of JSON text; as compressed Parquet a fraction of it
_ROWS = 100  # at once from `datasets`: rows may hold images


class Opened(NamedTuple):
    """One split of a dataset, unread, and where it is from. rows: a `datasets` Dataset or IterableDataset.

    commit: the hub's, None for a local folder. license: as the dataset's card states it.
    """

    rows: Any
    name: str
    split: str
    commit: str | None
    license: str | None

    @property
    def source(self) -> str:
        """What a record's meta.source says: "org/name@commit", or the folder's name."""
        return f"{self.name}@{self.commit}" if self.commit else Path(self.name).resolve().name


def open_dataset(
    name: str, split: str | None = None, config: str | None = None, revision: str | None = None
) -> Opened:
    """A hub dataset by name, or a local folder (written by `save_to_disk`, or of data files); streamed.

    split: by default the only one, else "train". revision: a branch, tag or commit of the hub.
    Raises UserError if there is no such dataset, split or configuration, or the hub cannot be reached.
    """
    from datasets import DatasetDict, load_dataset, load_from_disk
    from huggingface_hub import HfApi

    folder = Path(name)
    if folder.is_file():
        raise UserError(f"{name} is a file; `alignkit data convert {name} OUT.jsonl` reads it")
    if folder.is_dir() and revision is not None:
        raise UserError(f"{name} is a local folder: --revision goes with a dataset of the hub")
    commit = None
    try:
        if not folder.is_dir():
            info = HfApi().dataset_info(name, revision=revision)
            # The commit, not the branch: what is read is what is written down.
            commit, license_ = info.sha, _card_license(info.card_data)
            found = load_dataset(name, config, revision=commit, streaming=True)
        elif _is_saved(folder):
            loaded = load_from_disk(name)
            found = loaded if isinstance(loaded, DatasetDict) else {str(loaded.split or "train"): loaded}
            license_ = next(iter(found.values())).info.license or _folder_license(folder)
        else:
            found = load_dataset(str(folder.resolve()), config, streaming=True)
            license_ = _folder_license(folder)
    except _faults() as error:
        raise UserError(f"{name}: {_sentence(error)}{_hint(name, error)}") from None
    chosen = _split_of(found, split, name)
    return Opened(found[chosen], name, chosen, commit, license_)


def _is_saved(folder: Path) -> bool:
    return (folder / "dataset_dict.json").exists() or (folder / "state.json").exists()


def _split_of(found: Any, split: str | None, name: str) -> str:
    names = [str(key) for key in found]
    if split is None and (len(names) == 1 or "train" in names):
        return names[0] if len(names) == 1 else "train"
    if split not in names:
        asked = f'there is no split "{split}"' if split else "name one split with --split"
        raise UserError(f"{name}: {asked}; it has {', '.join(names)}")
    return split


def _faults() -> tuple[type[Exception], ...]:
    """What `datasets` and `huggingface_hub` raise for a dataset that is not there, or cannot be read."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    # The hub's errors are kinds of those of its HTTP library, which is another one in other versions; Arrow's
    # are kinds of the builtin ones; RuntimeError: a dataset that is a script.
    return (DatasetsError, *HfHubHTTPError.__bases__, OSError, ValueError, RuntimeError)


def _sentence(error: Exception) -> str:
    if type(error).__name__ in ("ConnectError", "ConnectTimeout", "OfflineModeIsEnabled"):
        return f"the hub cannot be reached ({error})"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def _hint(name: str, error: Exception) -> str:
    from huggingface_hub.errors import HFValidationError

    if isinstance(error, HFValidationError):
        return f" (there is no folder {name} either)"
    return ""


def _card_license(card: Any) -> str | None:
    stated = None if card is None else card.get("license")
    return ", ".join(stated) if isinstance(stated, list) else stated


def _folder_license(folder: Path) -> str | None:
    from huggingface_hub import DatasetCard

    readme = folder / "README.md"
    return (
        _card_license(DatasetCard.load(readme, ignore_metadata_errors=True).data) if readme.exists() else None
    )


def rows_of(opened: Opened, left_out: Counter[str]) -> Iterator[bytes]:
    """Every row as a line of JSON; nulls in structs are left out, class labels are written by their names.

    left_out: counts, by column, what JSON has no place for: the bytes of images, audio and the like.
    Raises UserError where the dataset cannot be read on.
    """
    names = _label_names(opened.rows.features or {})
    done = 0
    try:
        for table in opened.rows.with_format("arrow").iter(batch_size=_ROWS):
            clean = {field.name: arrow_cleaner(field.type) for field in table.schema}
            for row in table.to_pylist():
                plain = _without_bytes(row, "", left_out)
                opened_row = {key: clean[key](value) for key, value in plain.items() if value is not None}
                for key, labels in names.items():
                    if opened_row.get(key, -1) >= 0:
                        opened_row[key] = labels[opened_row[key]]
                yield msgspec.json.encode(opened_row)
            done += table.num_rows
    except _faults() as error:
        raise UserError(f"{opened.name}: not readable after row {done:,} ({_sentence(error)})") from None


def _label_names(features: Any) -> dict[str, list[str]]:
    from datasets import ClassLabel

    return {key: kind.names for key, kind in features.items() if isinstance(kind, ClassLabel)}


def _without_bytes(value: Any, place: str, left_out: Counter[str]) -> Any:
    """The value with None for bytes, and for an object that held nothing else."""
    if isinstance(value, bytes):
        left_out[place] += 1
        return None
    if isinstance(value, dict):
        kept = {k: _without_bytes(v, f"{place}.{k}" if place else k, left_out) for k, v in value.items()}
        emptied = kept != value and not any(v is not None for v in kept.values())
        return None if emptied and place else kept
    if isinstance(value, list):
        return [_without_bytes(entry, f"{place}[]", left_out) for entry in value]
    return value


def with_origin(records: Iterable[Record], opened: Opened) -> Iterator[Record]:
    """The records with meta.source, meta.license and meta.split, where they do not state these themselves."""
    origin = {"source": opened.source, "license": opened.license, "split": opened.split}
    stated = {key: value for key, value in origin.items() if value}
    for record in records:
        yield msgspec.structs.replace(record, meta={**stated, **record.meta})


class Shards:
    """Takes lines of records and writes FOLDER/SPLIT-00000.parquet and so on, each of about SHARD_BYTES."""

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split = folder, split
        self.count = 0
        self._size = 0
        self._sink: ParquetSink | None = None

    def write(self, line: bytes) -> None:
        if self._sink is None:
            self._sink = ParquetSink(self.folder / f"{self.split}-{self.count:05d}.parquet")
            self.count += 1
        self._sink.write(line)
        self._size += len(line)
        if self._size >= SHARD_BYTES:
            self.close()

    def close(self) -> None:
        if self._sink is not None:
            self._sink.__exit__(None)
        self._sink, self._size = None, 0


def write_shards(records: Iterable[Record], folder: Path, split: str = "train") -> Written:
    """Write Parquet shards with the published features into a new folder; return rows and fingerprint.

    The fingerprint is that of all the records in their order, so that of one file which holds them.
    """
    folder.mkdir(parents=True)
    shards = Shards(folder, split)
    writer = RecordWriter(shards)
    for record in records:
        writer.write(record)
    shards.close()
    return writer.written


def upload(folder: Path, repo_id: str, private: bool, overwrite: bool) -> str:
    """Make the hub's dataset repository hold what the folder holds; return its address.

    Raises UserError if the repository exists without `overwrite`, or the hub refuses or is not there.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    hub = HfApi()
    try:
        url = hub.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=overwrite)
        hub.upload_folder(
            repo_id=repo_id,
            repo_type="dataset",
            folder_path=folder,
            commit_message="Upload with alignkit",
            delete_patterns="data/*.parquet",  # shards of an earlier, larger version
        )
    except _faults() as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code == 409:
            raise UserError(f"{repo_id} exists on the hub; choose another name or add --overwrite") from None
        raise UserError(
            f"{repo_id}: {_sentence(error)}; `hf auth login` logs in, --dry-run DIR writes the files only"
        ) from None
    return str(url)


def iterable_view(view: str, paths: Paths, **options: Any) -> Any:
    """A `datasets.IterableDataset` of a view's rows, made as a trainer asks for them; no row is held.

    paths: files, folders or globs of records; each file is a shard, so workers and processes share them out.
    options: the view's own, such as how="majority" for pairs.
    Raises UserError for an unknown view, missing files, and a model of judges over several files: it is
    fitted to all records at once, which shards are not; put them into one file, or write the view first.
    """
    from datasets import IterableDataset

    if view not in VIEWS:
        raise UserError(f'there is no view "{view}"{nearest(view, set(VIEWS))}')
    files = data_files(paths)
    if options.get("how") in MODELS and len(files) > 1:
        raise UserError(
            f"how = {options['how']!r} is fitted to all records at once, and {len(files)} files are streamed "
            "in parts; put them into one file, or write the pairs first: alignkit data view pairs"
        )
    given = {"view": view, "files": files, "options": options}
    return IterableDataset.from_generator(_view_rows, gen_kwargs=given)


def _view_rows(view: str, files: list[Path], options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    records = (record for file in files for block in read_blocks(file) for record in _decoded(block))
    yield from VIEWS[view](records, **options)


def _decoded(block: Any) -> Iterator[Record]:
    return decode_block(block, decode_record, None)
