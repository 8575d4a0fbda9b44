#!/usr/bin/env python3
"""One greedy generation from Python, through ctypes:

  ORCD_LIBRARY=build/release/lib/liborcd.so.0 python3 examples/python/generate.py MODEL.gguf "The sky is" 16

Prints the text as it comes, then the ids and the digest of the logits they were drawn from.
"""

import sys

import orcd


def main() -> int:
    if len(sys.argv) != 4:
        print(f"usage: {sys.argv[0]} MODEL.gguf PROMPT MAX_TOKENS", file=sys.stderr)
        return 2
    _, path, prompt, max_tokens = sys.argv
    try:
        with orcd.Context() as context:
            print(context.plan(path, "cpu")["total_bytes"], "bytes on cpu", file=sys.stderr)
            with context.load(path, "cpu") as model, model.start(prompt, max_tokens=int(max_tokens), temperature=0) as answer:
                ids = []
                for token in answer:
                    print(token.text, end="", flush=True)
                    if token.id is not None:
                        ids.append(token.id)
                print("\ntokens:", *ids)
                print("logits:", answer.result()["logits_digest"])
    except orcd.OrcdError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
