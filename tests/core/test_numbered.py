"""Lists of numbered names in few words."""

import random

import pytest

from staf_cli.core.numbered import pack, unpack


def test_the_same_names_come_back():
    names = [f"meshes/person_1/{n:06d}.obj" for n in (*range(7, 300), 302)]
    names += [f"bvh/person_{n}.bvh" for n in (1, 2, 9, 10, 11, 12)] + ["bvh/person_007.bvh"]
    names += ["people.glb", "amass/person_1_smplx.npz", "a/999999.ply", "a/1000000.ply"]
    shuffled = random.Random(0).sample(names, len(names))
    packed = pack(shuffled)
    assert sorted(unpack(packed)) == sorted(names)
    assert "meshes/person_1/{000007..000299}.obj" in packed
    assert "bvh/person_{9..12}.bvh" in packed
    assert len(packed) == 8


def test_a_list_of_unknown_origin_has_an_end():
    with pytest.raises(ValueError, match="too many"):
        list(unpack(["a{0..99}", "b{0..999999999999}"]))
