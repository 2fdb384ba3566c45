"""The second built-in world: rendered people whose anatomy is known.

`scenes.random_scene(seed, view)` draws a scene, `render.render(scene, size)` makes its picture. A scene holds a person
(`body`), who is a mesh on a skeleton (`mesh`), in a pose (`gestures`, `poses`, `postures`), and a camera, a light and a
background (`scene`, `light`, `backgrounds`). The assets and their licences: assets/README.md.
"""
