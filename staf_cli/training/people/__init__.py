"""Who is trained on: motions, poses and how usual they are, bodies, clothes, hair and skins."""
