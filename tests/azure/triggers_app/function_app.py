"""A small app with a queue trigger, for the stand-in's pollers: it writes down what it is given."""

import json
import os
from pathlib import Path

import azure.functions as func

app = func.FunctionApp()


def note(**what: object) -> None:
    with Path(os.environ["NOTES"]).open("a") as notes:
        notes.write(f"{json.dumps(what)}\n")


@app.queue_trigger("msg", "%QUEUE%", "STORAGE")
def jobs(msg: func.QueueMessage) -> None:
    text = msg.get_body().decode()
    note(kind="queue", text=text, tries=msg.dequeue_count)
    if text == "poison":
        raise ValueError("this message is poison")
