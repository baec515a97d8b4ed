"""The paper's tables and figures, made with a network and a video of one's own."""
