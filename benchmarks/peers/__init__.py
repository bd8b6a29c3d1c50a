"""The same models and steps in plain PyTorch, to compare speed with: `python -m benchmarks.peers.step`.

The package tf_savae never imports this, and this imports its settings alone. What it needs is in requirements.txt
beside this file; `python -m benchmarks.check_peers` shows that its gradients are ours.
"""
