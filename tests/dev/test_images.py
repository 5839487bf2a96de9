from dataclasses import replace
from pathlib import Path

import pytest

from tunnel_dev import images
from tunnel_dev.description import Cluster
from tunnel_dev.errors import DevError
from tunnel_dev.images import ImageSpec, content_hash


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "requirements.txt").write_text("six\n")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.py").write_text("print()\n")
    return ImageSpec(
        name="thing",
        context=tmp_path,
        dockerfile=Path("Dockerfile"),
        inputs=(Path("requirements.txt"), Path("src")),
    )


def test_the_same_inputs_give_the_same_tag(spec):
    reordered = replace(spec, inputs=tuple(reversed(spec.inputs)))

    assert content_hash(spec, base="b") == content_hash(reordered, base="b")


@pytest.mark.parametrize("name", ["Dockerfile", "requirements.txt", "src/main.py"])
def test_another_content_gives_another_tag(spec, name):
    before = content_hash(spec, base="b")
    (spec.context / name).write_text("other\n")

    assert content_hash(spec, base="b") != before


def test_another_name_mode_or_base_gives_another_tag(spec):
    tags = [content_hash(spec, base="b"), content_hash(spec, base="c")]
    main = spec.context / "src" / "main.py"
    main.chmod(0o755)
    tags.append(content_hash(spec, base="b"))
    main.rename(main.with_name("other.py"))
    tags.append(content_hash(spec, base="b"))

    assert len(set(tags)) == 4


def test_what_python_leaves_behind_and_what_is_not_copied_changes_nothing(spec):
    before = content_hash(spec, base="b")
    (spec.context / "src" / "__pycache__").mkdir()
    (spec.context / "src" / "__pycache__" / "main.pyc").write_text("x")
    (spec.context / "README.md").write_text("x")

    assert content_hash(spec, base="b") == before


def test_a_missing_input_is_named(spec):
    with pytest.raises(DevError, match="nowhere does not exist"):
        content_hash(replace(spec, inputs=(Path("nowhere"),)), base="b")


def test_an_archive_is_kept_by_name_and_tag(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    archive = images.archive_of("localhost/thing:0123")

    assert archive == tmp_path / "edge-tunnels" / "images" / "thing" / "0123.tar"


def test_an_existing_cluster_is_not_loaded_into(spec):
    cluster = Cluster("existing", spec.context, Path("k"), Path("kubectl"), "h", "i")

    with pytest.raises(DevError, match="push 'thing'"):
        images.build_and_load(cluster, spec)
