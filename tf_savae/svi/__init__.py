"""The refinement of λ and how it is differentiated (paper, section 3)."""
