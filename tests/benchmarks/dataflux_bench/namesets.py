"""Names that people have: the naming conventions of public data sets, real directory trees, and what is hard to divide.

Each convention is written from the documentation of the data set that it is named after; numbers, classes and hashes
are drawn, so that a set of any size can be made, and the same one on every machine. Real trees (`TREES`) are whatever
is installed here.

`names_of(name, count)` returns the sorted, distinct names of one set.
"""

from __future__ import annotations

import base64
import itertools
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

Draw = random.Random
Generator = Callable[[Draw, int], Iterator[str]]
"""Yields about `count` names; more are cut off, evenly over the set, and repeated ones are dropped."""

_CHECKOUT = Path(__file__).resolve().parents[3]

_LOWER_HEX = "0123456789abcdef"
_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_WORDS = [
    "abseiling", "air-drumming", "answering-questions", "archery", "arm-wrestling", "baking-cookies", "bee-keeping",
    "belly-dancing", "bench-pressing", "biking", "blowing-glass", "bowling", "brush-painting", "building-cabinet",
    "canoeing", "capoeira", "carving-pumpkin", "catching-fish", "cheerleading", "clay-pottery", "climbing-rope",
    "cooking-egg", "country-dancing", "crying", "curling", "deadlifting", "digging", "disc-golfing", "drawing",
    "dribbling", "drinking", "drop-kicking", "dunking", "dying-hair", "eating-burger", "exercising-arm",
    "feeding-birds", "fencing", "filling-eyebrows", "folding-napkins", "gargling", "golf-putting", "grooming-dog",
    "gymnastics", "headbanging",
]  # fmt: skip


def _hex(draw: Draw, digits: int) -> str:
    return f"{draw.getrandbits(4 * digits):0{digits}x}"


def _uuid(draw: Draw) -> str:
    text = _hex(draw, 32)
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{'89ab'[draw.randrange(4)]}{text[17:20]}-{text[20:]}"


def _video_id(draw: Draw) -> str:
    return base64.urlsafe_b64encode(draw.randbytes(8)).decode()[:11]


def _dates(start_year: int = 2021) -> Iterator[tuple[int, int, int]]:
    for year in itertools.count(start_year):
        for month in range(1, 13):
            for day in range(1, 29 if month == 2 else 31):
                yield year, month, day


def _uneven(draw: Draw, total: int, parts: int, exponent: float = 1.1) -> list[int]:
    """Divide `total` into `parts` numbers as unlike as the sizes of users' directories."""
    weights = [(rank + 1) ** -exponent for rank in range(parts)]
    draw.shuffle(weights)
    scale = total / sum(weights)
    return [max(1, round(weight * scale)) for weight in weights]


# -- images


def _imagenet(draw: Draw, count: int) -> Iterator[str]:
    """Image classification: a directory a class, https://www.image-net.org/challenges/LSVRC/."""
    classes = sorted(draw.sample(range(1_440_000, 15_075_000), max(10, min(1000, count // 100))))
    for number in classes:
        for image in draw.sample(range(1, 40_000), max(1, int(count * 0.89 / len(classes)))):
            yield f"ILSVRC/Data/CLS-LOC/train/n{number:08}/n{number:08}_{image}.JPEG"
    for number in range(1, int(count * 0.04) + 1):
        yield f"ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_{number:08}.JPEG"
        yield f"ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_{number:08}.xml"
    for number in range(1, int(count * 0.07) + 1):
        yield f"ILSVRC/Data/CLS-LOC/test/ILSVRC2012_test_{number:08}.JPEG"


def _coco(draw: Draw, count: int) -> Iterator[str]:
    """Object detection: flat directories of sparse image numbers, https://cocodataset.org/#download."""
    largest = 5 * count
    for directory, part in (("train2017", 0.5), ("test2017", 0.17), ("unlabeled2017", 0.3), ("val2017", 0.03)):
        for number in draw.sample(range(9, largest), int(count * part)):
            yield f"{directory}/{number:012}.jpg"
    for kind, part in itertools.product(("instances", "captions", "person_keypoints"), ("train", "val")):
        yield f"annotations/{kind}_{part}2017.json"


def _openimages(draw: Draw, count: int) -> Iterator[str]:
    """Object detection: flat directories of random hexadecimal, https://storage.googleapis.com/openimages/web/."""
    for directory, part in (("train", 0.9), ("test", 0.075), ("validation", 0.025)):
        for _ in range(int(count * part)):
            yield f"{directory}/{_hex(draw, 16)}.jpg"


# -- sound and moving pictures


def _librispeech(draw: Draw, count: int) -> Iterator[str]:
    """Speech: reader, chapter, utterance, https://www.openslr.org/12."""
    kinds = ("dev-clean", "dev-other", "test-clean", "train-clean-100", "train-clean-360", "train-other-500")
    parts = (0.01, 0.01, 0.01, 0.1, 0.36, 0.51)
    for kind, part in zip(kinds, parts, strict=True):
        left = int(count * part)
        while left > 0:
            reader = draw.randrange(14, 8976)
            for _ in range(draw.randrange(1, 5)):
                chapter, length = draw.randrange(100, 300_000), draw.randrange(10, 90)
                yield f"LibriSpeech/{kind}/{reader}/{chapter}/{reader}-{chapter}.trans.txt"
                for number in range(length):
                    yield f"LibriSpeech/{kind}/{reader}/{chapter}/{reader}-{chapter}-{number:04}.flac"
                left -= length + 1


def _common_voice(draw: Draw, count: int) -> Iterator[str]:
    """Speech: one flat directory a language, numbers of any length, https://commonvoice.mozilla.org/datasets."""
    for language, part in (("ca", 0.2), ("de", 0.25), ("en", 0.45), ("zh-TW", 0.1)):
        for number in draw.sample(range(1, 41_000_000), int(count * part)):
            yield f"cv-corpus-17.0-2024-03-15/{language}/clips/common_voice_{language}_{number}.mp3"


def _voxceleb(draw: Draw, count: int) -> Iterator[str]:
    """Speakers: a speaker, a video, its cuts, https://www.robots.ox.ac.uk/~vgg/data/voxceleb/."""
    left = count
    for speaker in itertools.count(10_001):
        for _ in range(draw.randrange(4, 40)):
            video, cuts = _video_id(draw), draw.randrange(2, 15)
            for cut in range(1, cuts + 1):
                yield f"vox1/dev/wav/id{speaker}/{video}/{cut:05}.wav"
            left -= cuts
        if left <= 0:
            return


def _videos(draw: Draw, count: int) -> Iterator[str]:
    """Video: 11 random characters of base64url in a directory a class, as YouTube names them."""
    for word in _WORDS[:40]:
        for _ in range(count // 40):
            yield f"{word}/{_video_id(draw)}.mp4"


def _kinetics(draw: Draw, count: int) -> Iterator[str]:
    """Video: three parts of 700 classes, a video and its seconds, https://github.com/cvdfoundation/kinetics-dataset."""
    for part, share in (("test", 0.1), ("train", 0.85), ("val", 0.05)):
        for number, size in enumerate(_uneven(draw, int(count * share), 700, 0.5)):
            word = _WORDS[number % len(_WORDS)].replace("-", " ")
            for _ in range(size):
                start = draw.randrange(300)
                yield f"k700-2020/{part}/{word} {number}/{_video_id(draw)}_{start:06}_{start + 10:06}.mp4"


# -- driving, satellites, medicine


def _nuscenes(draw: Draw, count: int) -> Iterator[str]:
    """Driving: a directory a sensor, names of log, sensor and microseconds, https://www.nuscenes.org/nuscenes."""
    sensors = ["CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT", "CAM_FRONT", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT"]
    sensors += ["LIDAR_TOP", "RADAR_BACK_LEFT", "RADAR_BACK_RIGHT", "RADAR_FRONT", "RADAR_FRONT_LEFT"]
    logs = []
    for _ in range(68):
        day = f"2018-{draw.randrange(5, 12):02}-{draw.randrange(1, 29):02}"
        clock = f"{draw.randrange(10, 20)}-{draw.randrange(60):02}-{draw.randrange(60):02}+0800"
        began = 1_526_000_000_000_000 + draw.randrange(18_000_000) * 1_000_000
        logs.append((f"n{draw.choice(['008', '015'])}-{day}-{clock}", began))
    for kind, part in (("samples", 0.15), ("sweeps", 0.85)):
        for sensor in sensors:
            suffix = "jpg" if "CAM" in sensor else "pcd.bin" if "LIDAR" in sensor else "pcd"
            for number in range(int(count * part / len(sensors))):
                log, began = logs[number % len(logs)]
                moment = began + number // len(logs) * 83_333 + draw.randrange(5000)
                yield f"{kind}/{sensor}/{log}__{sensor}__{moment}.{suffix}"


def _kitti(draw: Draw, count: int) -> Iterator[str]:
    """Driving: day, drive, sensor, frame, https://www.cvlibs.net/datasets/kitti/raw_data.php."""
    left = count
    for day in ("2011_09_26", "2011_09_28", "2011_09_29", "2011_09_30", "2011_10_03"):
        for drive in range(1, 400):
            frames = draw.randrange(10, 300)
            root = f"raw_data/{day}/{day}_drive_{drive:04}_sync"
            for sensor in ("image_00", "image_01", "image_02", "image_03", "oxts", "velodyne_points"):
                suffix = {"o": "txt", "v": "bin"}.get(sensor[0], "png")
                yield f"{root}/{sensor}/timestamps.txt"
                for frame in range(frames):
                    yield f"{root}/{sensor}/data/{frame:010}.{suffix}"
            left -= 6 * frames + 6
            if left <= count * (0.3 if day < "2011_09_28" else 0.2 if day < "2011_09_30" else 0):
                break
        if left <= 0:
            return


def _sentinel(draw: Draw, count: int) -> Iterator[str]:
    """Satellites: grid square, product, granule, band, https://cloud.google.com/storage/docs/public-datasets/sentinel-2."""
    bands = [f"B{number:02}" for number in range(1, 13)] + ["B8A", "TCI"]
    left = count
    while left > 0:
        zone, band, square = draw.randrange(1, 61), draw.choice("CDEFGHJKLMNPQRSTUVWX"), draw.choice("ABCDEFGH")
        tile = f"{zone:02}{band}{square}{draw.choice('ABCDEFGHJ')}"
        for _ in range(draw.randrange(5, 60)):
            day = f"20{draw.randrange(16, 25)}{draw.randrange(1, 13):02}{draw.randrange(1, 29):02}"
            moment = f"{day}T{draw.randrange(10**6):06}"
            orbit = f"N0{draw.randrange(204, 511)}_R{draw.randrange(143):03}"
            product = f"S2{draw.choice('AB')}_MSIL1C_{moment}_{orbit}_T{tile}_{moment}.SAFE"
            root = f"tiles/{zone:02}/{band}/{tile[3:]}/{product}"
            yield from (f"{root}/{file}" for file in ("INSPIRE.xml", "MTD_MSIL1C.xml", "manifest.safe"))
            granule = f"{root}/GRANULE/L1C_T{tile}_A{draw.randrange(10**6):06}_{moment}"
            yield f"{granule}/MTD_TL.xml"
            yield from (f"{granule}/IMG_DATA/T{tile}_{moment}_{each}.jp2" for each in bands)
            left -= 4 + len(bands)


def _landsat(draw: Draw, count: int) -> Iterator[str]:
    """Satellites: sensor, path, row, scene, https://cloud.google.com/storage/docs/public-datasets/landsat."""
    left = count
    while left > 0:
        sensor, path, row = draw.choice(["LC08", "LE07", "LT05"]), draw.randrange(1, 234), draw.randrange(1, 249)
        for _ in range(draw.randrange(1, 30)):
            taken = f"{draw.randrange(2013, 2022)}{draw.randrange(1, 13):02}{draw.randrange(1, 29):02}"
            scene = f"{sensor}_L1TP_{path:03}{row:03}_{taken}_{int(taken) + 10000}_01_T1"
            for part in ["ANG.txt", "BQA.TIF", "MTL.txt", *(f"B{number}.TIF" for number in range(1, 12))]:
                yield f"{sensor}/01/{path:03}/{row:03}/{scene}/{scene}_{part}"
            left -= 14


def _dicom(draw: Draw, count: int) -> Iterator[str]:
    """Medicine: patient, study and series as UIDs, slices, https://www.cancerimagingarchive.net (LIDC-IDRI)."""
    root = "1.3.6.1.4.1.14519.5.2.1.6279.6001"
    left = count
    for patient in itertools.count(1):
        for _ in range(draw.randrange(1, 4)):
            study, series = (draw.randrange(10**29, 4 * 10**29) for _ in range(2))
            slices = draw.randrange(2, 400)
            for number in range(1, slices + 1):
                yield f"LIDC-IDRI/LIDC-IDRI-{patient:04}/{root}.{study}/{root}.{series}/1-{number:03}.dcm"
            left -= slices
        if left <= 0:
            return


def _uids(draw: Draw, count: int) -> Iterator[str]:
    """Medicine: a flat archive in which every file has the UID of its instance, https://dicom.nema.org (PS3.5, 9)."""
    roots = ["1.2.840.113619.2.55.3", "1.2.840.113704.1.111", "1.3.12.2.1107.5.1.4", "1.3.6.1.4.1.14519.5.2.1"]
    for _ in range(count):
        parts = (draw.randrange(10 ** draw.choice([4, 5, 9, 10])) for _ in range(3))
        yield f"instances/{draw.choice(roots)}.{'.'.join(map(str, parts))}.dcm"


def _bids(draw: Draw, count: int) -> Iterator[str]:
    """Medicine: subject, session, kind of data, https://bids-specification.readthedocs.io."""
    left = count
    for subject in itertools.count(1):
        for session in range(1, draw.randrange(2, 5)):
            name = f"sub-{subject:05}_ses-{session:02}"
            root = f"ds004302/sub-{subject:05}/ses-{session:02}"
            for task, run, end in itertools.product(
                ("rest", "nback"), range(1, 4), ("bold.json", "bold.nii.gz", "events.tsv")
            ):
                yield f"{root}/func/{name}_task-{task}_run-{run:02}_{end}"
            yield from (f"{root}/anat/{name}_{end}" for end in ("T1w.json", "T1w.nii.gz", "T2w.nii.gz"))
            yield from (f"{root}/dwi/{name}_dwi.{end}" for end in ("bval", "bvec", "json", "nii.gz"))
            left -= 25
        if left <= 0:
            return


# -- crawls, tables, archives, stores, logs


def _crawl(draw: Draw, count: int) -> Iterator[str]:
    """Web crawl: crawl, segment, kind, file, https://commoncrawl.org/get-started."""
    left = count
    for year, week in itertools.product(range(2019, 2030), range(4, 53, 6)):
        for segment in sorted(draw.sample(range(10**6), 100)):
            moment = f"{year}02{draw.randrange(10, 28)}{draw.randrange(10**6):06}"
            files = max(3, min(900, count // 2000))
            for kind, end in (
                ("robotstxt", "warc.gz"),
                ("warc", "warc.gz"),
                ("wat", "warc.wat.gz"),
                ("wet", "warc.wet.gz"),
            ):
                for number in range(files):
                    yield (
                        f"crawl-data/CC-MAIN-{year}-{week:02}/segments/"
                        f"{1_500_000_000 + 1000 * segment}.{segment % 100}/"
                        f"{kind}/CC-MAIN-{moment}-{moment}-{number:05}.{end}"
                    )
            left -= 4 * files
            if left <= 0:
                return


def _partitions(draw: Draw, count: int) -> Iterator[str]:
    """Partitioned tables as Spark writes them for Hive: of different ages and sizes, with markers beside the parts."""
    for table, share, files in (("clicks", 0.6, 40), ("orders", 0.1, 4), ("page_views", 0.3, 12)):
        left = int(count * share)
        for year, month, day in _dates():
            for hour in range(24):
                root = f"warehouse/web.db/{table}/dt={year}-{month:02}-{day:02}/hour={hour:02}"
                yield f"{root}/_SUCCESS"
                job = _uuid(draw)
                for part in range(files):
                    yield f"{root}/part-{part:05}-{job}.c000.snappy.parquet"
            left -= 24 * (files + 1)
            if left <= 0:
                break


def _shards(draw: Draw, count: int) -> Iterator[str]:
    """Sharded archives with sidecar files, https://github.com/rom1504/img2dataset and WebDataset."""
    left = count
    for kind, share in (("laion-aesthetic", 0.1), ("laion2B-en", 0.7), ("laion2B-multi", 0.2)):
        for shard in range(int(left * share) // 3):
            yield from (f"{kind}/data/{shard:06}{end}" for end in (".parquet", ".tar", "_stats.json"))


def _content_addressed(draw: Draw, count: int) -> Iterator[str]:
    """A cache of contents by their hash: two digits are the directory, https://dvc.org/doc (and git's objects)."""
    for _ in range(int(count * 0.8)):
        digest = _hex(draw, 32)
        yield f"dvc-store/files/md5/{digest[:2]}/{digest[2:]}"
    for _ in range(int(count * 0.2)):
        digest = _hex(draw, 64)
        yield f"registry/docker/registry/v2/blobs/sha256/{digest[:2]}/{digest}/data"


def _cloud_logs(draw: Draw, count: int) -> Iterator[str]:
    """Logs: account, service, region, date, https://docs.aws.amazon.com/awscloudtrail (kept the same way elsewhere)."""
    accounts = [draw.randrange(10**11, 10**12) for _ in range(4)]
    regions = ("ap-south-1", "eu-central-1", "eu-west-1", "us-east-1", "us-west-2")
    for account, size in zip(accounts, _uneven(draw, count, 4), strict=True):
        for region, some in zip(regions, _uneven(draw, size, len(regions)), strict=True):
            a_day = max(1, some // 700)
            days = itertools.islice(_dates(2022), max(1, some // a_day))
            for year, month, day in days:
                for _ in range(a_day):
                    minute = f"{draw.randrange(24):02}{draw.randrange(0, 60, 5):02}"
                    mark = "".join(draw.choices(_ID_LETTERS, k=16))
                    yield (
                        f"AWSLogs/{account}/CloudTrail/{region}/{year}/{month:02}/{day:02}/{account}_CloudTrail_"
                        f"{region}_{year}{month:02}{day:02}T{minute}Z_{mark}.json.gz"
                    )


def _app_logs(draw: Draw, count: int) -> Iterator[str]:
    """Logs of services: hour by hour, a file an instance, of which some services have many."""
    services = ["api-gateway", "auth", "billing", "cart", "frontend", "notifications", "search", "worker"]
    for service, size in zip(services, _uneven(draw, count, len(services), 1.5), strict=True):
        instances = max(1, min(40, size // 500))
        pods = [
            f"{service}-{_hex(draw, 10)}-{''.join(draw.choices('bcdfghjklmnpqrstvwxz2456789', k=5))}"
            for _ in range(instances)
        ]
        left = size
        for year, month, day in _dates(2024):
            for hour, pod in itertools.product(range(24), pods):
                yield f"logs/{service}/{year}/{month:02}/{day:02}/{hour:02}/{pod}.log.gz"
            left -= 24 * instances
            if left <= 0:
                break


def _zarr(draw: Draw, count: int) -> Iterator[str]:
    """Chunked arrays: a variable is a directory of chunks named by their indices, https://zarr.dev (ERA5, ARCO)."""
    variables = [
        "10m_u_component_of_wind",
        "2m_temperature",
        "geopotential",
        "specific_humidity",
        "temperature",
        "vorticity",
    ]
    for variable, size in zip(variables, _uneven(draw, count, len(variables)), strict=True):
        yield from (f"era5/1959-2023.zarr/{variable}/{file}" for file in (".zarray", ".zattrs"))
        for number in range(size):
            yield f"era5/1959-2023.zarr/{variable}/{number // 12}.{number % 12 // 4}.{number % 4}"


def _mlruns(draw: Draw, count: int) -> Iterator[str]:
    """Experiments: hash, then a small tree each, https://mlflow.org/docs/latest/tracking.html."""
    left = count
    while left > 0:
        experiment, steps = draw.choice("12345"), draw.randrange(1, 40)
        root = f"mlruns/{experiment}/{_hex(draw, 32)}"
        yield f"{root}/meta.yaml"
        yield from (
            f"{root}/artifacts/model/{file}" for file in ("MLmodel", "conda.yaml", "model.pkl", "requirements.txt")
        )
        yield from (f"{root}/artifacts/checkpoints/step-{1000 * step}/weights.safetensors" for step in range(steps))
        yield from (f"{root}/metrics/{metric}" for metric in ("accuracy", "loss", "val_accuracy", "val_loss"))
        yield from (f"{root}/tags/mlflow.{tag}" for tag in ("runName", "source.name", "user"))
        left -= 12 + steps


def _uploads(draw: Draw, count: int) -> Iterator[str]:
    """Users' files: a directory a user, of very uneven sizes, names of time and of the file that was uploaded."""
    users = max(10, count // 40)
    for size in _uneven(draw, count, users):
        user = draw.randrange(10**6)
        for _ in range(size):
            kind = draw.choice(["IMG_{:04}.HEIC", "Screenshot {:04}.png", "scan{:04}.pdf", "VID-{:04}.mp4"])
            uploaded_ms = 1_600_000_000_000 + draw.randrange(10**11)
            yield f"uploads/user_{user}/{uploaded_ms}-{kind.format(draw.randrange(9999))}"


def _sensors(draw: Draw, count: int) -> Iterator[str]:
    """Measurements: a flat directory, the device first, then the moment."""
    devices = [f"sensor-{draw.choice('ABCD')}{draw.randrange(1000):03}" for _ in range(60)]
    for device, size in zip(devices, _uneven(draw, count, 60, 0.7), strict=True):
        moment = 0
        for _ in range(size):
            moment += draw.randrange(60, 3600)
            day, second = divmod(moment, 86_400)
            month, day = divmod(day, 28)
            yield (
                f"telemetry/{device}_{2022 + month // 12}-{month % 12 + 1:02}-{day + 1:02}T"
                f"{second // 3600:02}-{second // 60 % 60:02}-{second % 60:02}.json"
            )


# -- what is hard


def _mixed(draw: Draw, count: int) -> Iterator[str]:
    """Everything in one bucket, without directories: counters, dates, hashes, and names that people gave."""
    for number in range(count // 4):
        yield f"IMG_{number:05}.jpg"
    for number in range(count // 4):
        yield f"2024-{number % 12 + 1:02}-{number // 12 % 28 + 1:02}T{number // 336:06}.log"
    for _ in range(count // 4):
        yield f"{_hex(draw, 40)}.bin"
    for _ in range(count // 4):
        yield f"{draw.choice(_WORDS)} {draw.choice(_WORDS)} ({draw.randrange(count)}).docx"


def _lake(draw: Draw, count: int) -> Iterator[str]:
    """Many data sets of other shapes, each below a directory of its own."""
    makers = [_coco, _videos, _partitions, _content_addressed, _sensors, _librispeech, _openimages, _uploads]
    for maker, size in zip(makers, _uneven(draw, count, len(makers), 0.8), strict=True):
        for name in maker(draw, size):
            yield f"{maker.__name__.strip('_')}/{name}"


def _scripts(draw: Draw, count: int) -> Iterator[str]:
    """Directories and files in several scripts, of uneven sizes."""
    roots = [
        "data",
        "données",
        "Данные",
        "δεδομένα",
        "データ/写真",
        "데이터",
        "数据",
        "бэкап/2024",
        "😀",
        "\uff46\uff55\uff4c\uff4c",
    ]
    letters = [
        "abcdefgh",
        "éèàçùâ",
        "абвгдежз",
        "αβγδεζη",
        "あいうえおかきくけこ",
        "가나다라마바사",
        "一二三四五六七八九十",
        "жзик",
        "🎈🎉🎊",
        "\uff41\uff42\uff43",
    ]
    for root, alphabet, size in zip(roots, letters, _uneven(draw, count, len(roots), 0.8), strict=True):
        for number in range(size):
            yield f"{root}/{''.join(draw.choices(alphabet, k=4))}/{number:06}.jpg"


def _late(draw: Draw, count: int) -> Iterator[str]:
    """A long path that everything shares, and names that share much more before they differ."""
    root = "company/research/perception/datasets/2024/q3/exports/final/v2/full-resolution/frames"
    runs = [
        f"run_20240{draw.randrange(1, 10)}{draw.randrange(10, 29)}_vehicle_{number:03}_camera_front_wide"
        for number in range(30)
    ]
    for run, size in zip(runs, _uneven(draw, count, 30, 0.5), strict=True):
        for frame in range(size):
            yield f"{root}/{run}_exposure_auto_gain_auto_frame_{1_720_000_000_000 + frame * 33}.png"


def _ids(draw: Draw, count: int) -> Iterator[str]:
    """Flat, 20 random letters and digits, as document stores make them."""
    for _ in range(count):
        yield "".join(draw.choices(_ID_LETTERS, k=20))


# -- a directory for each object, and names without case


def _samples(draw: Draw, count: int) -> Iterator[str]:
    """A directory for each sample, named by a random identifier, with one file."""
    for _ in range(count):
        yield f"datasets/faces/v3/{_video_id(draw)}/image.webp"


def _orders(draw: Draw, count: int) -> Iterator[str]:
    """A directory for each order, named by its number without leading zeros, with one document."""
    for number in draw.sample(range(1, 3 * count), count):
        yield f"orders/{number}/invoice.pdf"


def _iceberg(draw: Draw, count: int) -> Iterator[str]:
    """Table files below directories of hash bits, https://iceberg.apache.org/docs/latest/aws/#object-store-file-layout."""
    for number in range(count):
        bits = f"{draw.getrandbits(20):020b}"
        directories = f"{bits[:4]}/{bits[4:8]}/{bits[8:12]}/{bits[12:]}"
        yield f"lake.db/events/data/{directories}/day={number * 400 // count}/{number:05}-0-{_uuid(draw)}-00001.parquet"


def _accounts(draw: Draw, count: int) -> Iterator[str]:
    """A directory for each account, named by its mail address, with one export."""
    hosts = ["gmail.com", "yahoo.co.jp", "web.de", "outlook.com", "corp.example"]
    for number in range(count):
        first, last = draw.choice(_WORDS).split("-")[0], draw.choice(_WORDS).split("-")[-1]
        yield f"exports/{first}.{last}{number % 9999}@{draw.choice(hosts)}/takeout.zip"


def _songs(draw: Draw, count: int) -> Iterator[str]:
    """One directory of files with Korean titles; any of 11,172 syllables may come first."""
    for _ in range(count):
        yield f"음악/{''.join(chr(0xAC00 + draw.randrange(11_172)) for _ in range(draw.randrange(3, 9)))}.mp3"


def _titles(draw: Draw, count: int) -> Iterator[str]:
    """A directory for each Chinese title, with one file."""
    for _ in range(count):
        yield f"图书馆/{''.join(chr(0x4E00 + draw.randrange(6_000)) for _ in range(draw.randrange(2, 9)))}/正文.txt"


def _one_large(draw: Draw, count: int) -> Iterator[str]:
    """Thousands of small directories, and one in their midst that holds most."""
    for number in range(count // 50):
        yield from (f"jobs/{number:05}/{file}" for file in ("config.json", "log.txt", "out.bin"))
    for _ in range(int(count * 0.94)):
        yield f"jobs/{count // 120:05}/checkpoints/{_hex(draw, 8)}.pt"


def _nested(draw: Draw, count: int) -> Iterator[str]:
    """Directories in directories: each holds some files and the rest of the tree."""
    root = ""
    for depth in range(100):
        yield from (f"{root}{number:06}.dat" for number in range(count // 100))
        root += f"level{depth:02}/"


def _skewed(draw: Draw, count: int) -> Iterator[str]:
    """Numbers that get denser and denser: half of the names share one more digit, and so on."""
    for _ in range(count):
        yield f"points/{int(10**12 * 2 ** -draw.expovariate(0.3)):012}-{_hex(draw, 6)}.bin"


def _growing(draw: Draw, count: int) -> Iterator[str]:
    """Names of which each begins with the one before it, in many directories of no use."""
    for number in range(count // 200):
        yield from (f"{number:05}/{'x' * length}" for length in range(1, 201))


def _environment() -> Iterator[str]:
    """The environments of this checkout that were made so far; `make airflow3 airflow2` makes 90,000 files."""
    for environment in sorted(_CHECKOUT.glob(".venv*")) or [Path(sys.prefix)]:
        yield from (f"{environment.name}/{name}" for name in _files_below(str(environment)))


def _usr() -> Iterator[str]:
    yield from _files_below("/usr")


def _files_below(root: str) -> Iterator[str]:
    for directory, _, files in os.walk(root):
        below = os.path.relpath(directory, root)
        for file in files:
            name = file if below == "." else f"{below}/{file}"
            if name.isprintable() and name.isascii():
                yield name


TREES: dict[str, Callable[[], Iterator[str]]] = {"environment": _environment, "usr": _usr}
"""Real trees of files; their size is what it is."""

CONVENTIONS: dict[str, Generator] = {
    "imagenet": _imagenet,
    "coco": _coco,
    "openimages": _openimages,
    "librispeech": _librispeech,
    "common-voice": _common_voice,
    "voxceleb": _voxceleb,
    "videos": _videos,
    "kinetics": _kinetics,
    "nuscenes": _nuscenes,
    "kitti": _kitti,
    "sentinel": _sentinel,
    "landsat": _landsat,
    "dicom": _dicom,
    "uids": _uids,
    "bids": _bids,
    "crawl": _crawl,
    "partitions": _partitions,
    "shards": _shards,
    "content-addressed": _content_addressed,
    "cloud-logs": _cloud_logs,
    "app-logs": _app_logs,
    "zarr": _zarr,
    "mlruns": _mlruns,
    "uploads": _uploads,
    "sensors": _sensors,
    "mixed": _mixed,
    "lake": _lake,
    "scripts": _scripts,
    "late": _late,
    "ids": _ids,
    "samples": _samples,
    "orders": _orders,
    "iceberg": _iceberg,
    "accounts": _accounts,
    "songs": _songs,
    "titles": _titles,
}
"""What people have."""

HARD: dict[str, Generator] = {
    "one-large": _one_large,
    "nested": _nested,
    "skewed": _skewed,
    "growing": _growing,
}
"""What nobody would choose, and a listing must survive."""

NAME_SETS = (*TREES, *CONVENTIONS, *HARD)


def names_of(name: str, count: int) -> list[str]:
    """Return the sorted names of one set, at most `count` of them (and of a tree at most what there is)."""
    if name in TREES:
        found = sorted(set(TREES[name]()))
    else:
        found = sorted(set((CONVENTIONS | HARD)[name](random.Random(name), count)))
    if len(found) <= count:
        return found
    if name in TREES:
        return found[:count]
    return [found[index * len(found) // count] for index in range(count)]
