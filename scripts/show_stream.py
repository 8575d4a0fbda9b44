#!/usr/bin/env python3
"""Reads the event stream of POST /execute from stdin; prints the text as it comes, then the figures of its end.

Exits 1 unless the stream is started, some text, and exactly one `end`, in this order.
"""

import json
import sys


def main() -> int:
    event, names, text = "", [], ""
    for line in sys.stdin.buffer:
        field, _, value = line.decode("utf-8").rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            event = value
        elif field == "data":
            names.append(event)
            data = json.loads(value)
            if event == "token":
                text += data["t"]
                sys.stdout.write(data["t"])
                sys.stdout.flush()
            elif event == "end":
                print_figures(data)
            elif event == "error":
                print(f"\nerror: {json.dumps(data)}", file=sys.stderr)
        elif field.startswith("{"):  # not a stream: the JSON of a refused request
            print(line.decode("utf-8"), file=sys.stderr)
    if not text.strip() or names[:1] != ["started"] or names.count("end") != 1 or names[-1] != "end":
        print(f"\nerror: not a whole answer; events: {' '.join(names) or 'none'}", file=sys.stderr)
        return 1
    return 0


def print_figures(end: dict) -> None:
    tokens, milliseconds = end["tokens_out"], end["decode_time_ms"]
    speed = f"{1000 * tokens / milliseconds:.1f} tokens/s" if milliseconds else "too short to time"
    print(f"\n\n    {tokens} tokens in {milliseconds:.0f} ms: {speed}; stop reason {end['stop_reason']}, seed {end['seed']}")


if __name__ == "__main__":
    sys.exit(main())
