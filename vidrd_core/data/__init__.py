"""Data preparation: from folders of images and videos to shards of captioned clips."""
