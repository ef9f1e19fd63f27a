"""Start the app: on this machine only, unless asked; nothing leaves it."""

from __future__ import annotations

import os
from typing import Any

from app.ui.desk import Desk
from app.ui.theme import STYLE, theme

LOOPBACK = ("127.0.0.1", "localhost", "::1")
UPLOAD = "25mb"


def serve(
    model: str,
    host: str = "127.0.0.1",
    port: int | None = None,
    device: str = "",
    concept: str = "red",
    **options: Any,
) -> Any:
    """Build the page and launch it. `port` None: the first free from 7860 on. Returns what gradio's launch returns."""
    # Before the page is built: gradio would ask a server about newer versions.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from app.ui.page import build
    from app.world_concepts import find

    page = build(Desk(model, open_to_all=host not in LOOPBACK, device=device), find(concept))
    page.queue(default_concurrency_limit=8, max_size=64)
    return page.launch(
        server_name=host,
        server_port=port,
        share=False,
        strict_cors=True,
        show_error=False,
        enable_monitoring=False,
        max_file_size=UPLOAD,
        run_history=False,
        ssr_mode=False,
        pwa=False,
        theme=theme(),
        css_paths=[STYLE],
        footer_links=["api", "settings"],
        **options,
    )
