"""The dataset format: records, files, views, quality and foreign formats. Imports neither torch nor gradio."""
