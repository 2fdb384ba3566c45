"""What all tests share: no network, quiet libraries, one thread where tests run side by side."""

import os

os.environ.setdefault("HAFBENCH_OFFLINE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("MPLBACKEND", "Agg")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Several test processes, each with threads for every core, would stand in each other's way.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
