-- The end of the sweep script.
return failed or swept
