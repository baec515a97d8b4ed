"""How people come into pictures: cameras, light, backgrounds, rendering, a real camera's flaws."""
