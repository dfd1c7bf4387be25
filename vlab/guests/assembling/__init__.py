"""The parts of `vlab.guests.assembler`: what assemblers are given, the assemblers, what they give back."""
