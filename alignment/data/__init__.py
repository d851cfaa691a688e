"""The dataset format: records, files, views, quality, foreign formats. Needs neither torch nor gradio."""
