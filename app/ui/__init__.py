"""The app in the browser. The only place that imports gradio."""
