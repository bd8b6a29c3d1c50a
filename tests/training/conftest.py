"""XLA compiles these small models for much longer than it runs them: half of that is LLVM's optimisation."""

import os

os.environ.setdefault(
  "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)
