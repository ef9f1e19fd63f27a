"""Start the app: on this machine only, unless asked; nothing leaves it."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Thread
from typing import Any

from app.ui.desk import Desk
from app.ui.sessions import Settings
from app.ui.theme import STYLE, theme

LOOPBACK = ("127.0.0.1", "localhost", "::1")
UPLOAD = "25mb"


def serve(
    model: str,
    host: str = "127.0.0.1",
    port: int | None = None,
    device: str = "",
    concept: str = "",
    say: Callable[[str], Any] = lambda _: None,
    **options: Any,
) -> Any:
    """Build the page, launch it, `say` where it is. `port` None: the first free from 7860 on.

    Returns what gradio's launch returns: at once with `prevent_thread_lock`, else when it is stopped.
    """
    # Before the page is built: gradio would ask a server about newer versions.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # gradio asks itself whether it is up: not through a proxy.
    os.environ["no_proxy"] = ",".join(filter(None, [os.environ.get("no_proxy"), *LOOPBACK]))
    from app.ui.page import build, get_ready

    desk = Desk(model, open_to_all=host not in LOOPBACK, device=device)
    first = Settings(model, desk.called(concept), method=desk.first_method(model))
    page = build(desk, first)
    page.queue(default_concurrency_limit=8, max_size=64)
    waits = not options.pop("prevent_thread_lock", False)
    launched = page.launch(
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
        footer_links=["api"],
        prevent_thread_lock=True,
        quiet=True,
        **options,
    )
    # Only now, so that the page is there first.
    Thread(target=get_ready, args=(desk, first), daemon=True, name="getting ready").start()
    say(f"The app is at {launched[1]}. Stop it with Ctrl-C.")
    if waits:
        page.block_thread()
    return launched
