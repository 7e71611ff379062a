"""promptmill: a table of prompts in, one verified, named image per row out, through ComfyUI."""
