"""The console's scanner of JSON text, in the browser."""

import json
import re

from .chromium import Page
from .server import ServerProcess


def test_exact_text_survives_the_scanner(page: Page, server: ServerProcess) -> None:
    page.open(f"{server.url}/")
    values = [
        '{"a":[1,{"b":"x\\\\"}],"":{}}',
        "[]",
        '"\\\\\\""',
        "-0.0e+10",
        "[ 1 , [ ] , { } ]",
        '{"a}":"]{\\""}',
        "null",
    ]
    changes = [f'{{"seq":{n},"op":"ADD","key":"k","value":{value},"time":1}}' for n, value in enumerate(values)]
    frame = f'{{"type":"BATCH","feed":"f","from":"a:0","to":"a:9","changes":[{",".join(changes)}]}}'
    answer = page.evaluate(
        f"""import(new URL('console/json-text.js', document.baseURI)).then(({{ readFrame, layOut }}) => {{
            const {{ changes, ...rest }} = readFrame({json.dumps(frame)});
            return [rest, changes.map(change => change.value),
                    changes.map(change => [...layOut(change.value)].map(([, text]) => text).join(''))];
        }})"""
    )
    assert answer[0] == {"type": "BATCH", "feed": "f", "from": "a:0", "to": "a:9"}
    assert answer[1] == values
    for laid_out, value in zip(answer[2], values, strict=True):
        assert json.loads(laid_out) == json.loads(value)
        assert re.sub(r"\s", "", laid_out) == re.sub(r"\s", "", value)
