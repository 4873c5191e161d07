"""Names and tags of what is stored, and the page that describes them."""

from __future__ import annotations

import re
from pathlib import Path

from storage import schema
from storage.store import AlarmRecord
from tests.storage.city import directory

PAGE = (Path(__file__).parents[2] / "docs" / "storage.md").read_text()


def test_a_site_without_a_district_has_no_such_tag():
    assert schema.DISTRICT not in schema.datastream_tags(directory(), 0)
    assert schema.datastream_tags(directory(), 1)[schema.DISTRICT] == "Kec. Satu"


def test_tags_are_those_that_the_schema_names():
    assert set(schema.datastream_tags(directory(), 1)) == set(schema.READING.tags)
    assert set(schema.ALARM.tags) | {f.name for f in schema.ALARM.fields} | {"at"} == set(AlarmRecord.__slots__)
    for measurement in schema.MEASUREMENTS.values():
        names = [f.name for f in measurement.fields]
        assert len(set(names)) == len(names) and not set(names) & set(measurement.tags)


def test_the_label_is_that_of_the_threshold_passed():
    of = directory()  # Siaga 3 at 1.5, Siaga 2 at 2.0, Siaga 1 at 2.5
    assert schema.level_label(of, 0, 2, 2.0) == "Siaga 2"
    assert schema.level_label(of, 0, 3, 99.0) == "Siaga 1"
    assert schema.level_label(of, 0, 0, 2.0) == ""


def test_the_page_describes_every_measurement_tag_and_field():
    for measurement in schema.MEASUREMENTS.values():
        section = re.search(rf"^### `{measurement.name}`\n(.*?)(?=^#|\Z)", PAGE, re.S | re.M)
        assert section is not None, measurement.name
        for tag in measurement.tags:
            assert f"`{tag}`" in section[1], f"{measurement.name} {tag}"
        for field in measurement.fields:
            assert f"| `{field.name}` | {field.type} | {field.unit} | {field.meaning} |" in section[1], field.name
