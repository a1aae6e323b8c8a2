"""torchmetrics imports torchvision, which needs the work-around beside a CPU build of torch."""

from recgen.compat import prepare_torchvision

prepare_torchvision()
