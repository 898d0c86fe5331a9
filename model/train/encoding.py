"""The chat encoding of DeepSeek-V3.2 as token ids, with a loss mask (spec: model/encoding.h).

A document is a list of pieces: a control token, or text between two of them.
Control tokens arise here and nowhere else: text is encoded by a BPE that knows no
added token, as the engine does it, so a "<think>" in a tool result stays text.
"""
import json

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
USER, ASSISTANT = "<｜User｜>", "<｜Assistant｜>"
THINK, THINK_END, DSML = "<think>", "</think>", "｜DSML｜"
PAD = "<｜▁pad▁｜>"
CONTROL = [BOS, EOS, PAD, USER, ASSISTANT, THINK, THINK_END, DSML]

TOOLS_BLOCK = """## Tools

You have access to a set of tools you can use to answer the user's question.
You can invoke functions by writing a "<｜DSML｜function_calls>" block like the following as part of your reply to the user:
<｜DSML｜function_calls>
<｜DSML｜invoke name="$FUNCTION_NAME">
<｜DSML｜parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</｜DSML｜parameter>
...
</｜DSML｜invoke>
<｜DSML｜invoke name="$FUNCTION_NAME2">
...
</｜DSML｜invoke>
</｜DSML｜function_calls>

String and scalar parameters should be specified as is without any escaping or quotes, while lists and objects should use JSON format. The "string" attribute should be set to "true" for string type parameters and "false" for other types (numbers, booleans, arrays, objects).

If the thinking_mode is enabled, then after function results you should strongly consider outputting a thinking block. Here is an example:

<｜DSML｜function_calls>
...
</｜DSML｜function_calls>

<function_results>
...
</function_results>

<think>...thinking about results</think>

Here are the functions available in JSONSchema format:
<functions>
{tool_schemas}
</functions>
"""


def J(v):
    return json.dumps(v, ensure_ascii=False)


def _split(markup):
    """Trusted markup as pieces: the control tokens that it spells, and what lies between."""
    out, at = [], 0
    while at < len(markup):
        found = [(markup.find(c, at), -len(c), c) for c in CONTROL if markup.find(c, at) >= 0]
        if not found:
            out.append((None, markup[at:]))
            break
        i, _, c = min(found)
        if i > at:
            out.append((None, markup[at:i]))
        out.append((c, c))
        at = i + len(c)
    return out


_BLOCK = [_split(part) for part in TOOLS_BLOCK.split("{tool_schemas}")]


class Call:
    """One call of a turn. skip: it is a planted mistake, without loss."""

    def __init__(self, name, args, skip=False):
        self.name, self.args, self.skip = name, args, skip


class Document:
    def __init__(self, kind):
        self.kind = kind
        self.pieces = []   # [control or None, text, loss]
        self.messages = [] # the same as OpenAI messages, for other encoders to be held against
        self.meta = {}

    def _text(self, text, loss=False):
        if not text:
            return
        last = self.pieces[-1] if self.pieces else None
        if last and last[0] is None and last[2] == loss:
            last[1] += text
        else:
            self.pieces.append([None, text, loss])

    def _token(self, c, loss=False):
        self.pieces.append([c, c, loss])

    def system(self, content, functions):
        self.messages.append({"role": "system", "content": content, "tools": [
            {"type": "function", "function": json.loads(f) if isinstance(f, str) else f} for f in functions]})
        self._token(BOS)
        self._text(content + "\n\n")
        for c, s in _BLOCK[0]:
            self._token(c) if c else self._text(s)
        self._text("\n".join(f if isinstance(f, str) else J(f) for f in functions))
        for c, s in _BLOCK[1]:
            self._token(c) if c else self._text(s)

    def user(self, content):
        self.messages.append({"role": "user", "content": content})
        self._token(USER)
        self._text(content)
        self._token(ASSISTANT)
        self._token(THINK)

    def assistant(self, thinking, content="", calls=(), loss=True):
        self.messages.append({"role": "assistant", "content": content, "reasoning_content": thinking, "tool_calls": [
            {"type": "function", "function": {"name": c.name, "arguments": J(c.args)}} for c in calls]})
        self._text(thinking, loss)
        self._token(THINK_END, loss)
        self._text(content, loss)
        if calls:
            self._text("\n\n<", loss)
            self._token(DSML, loss)
            self._text("function_calls>\n", loss)
            for call in calls:
                on = loss and not call.skip
                self._text("<", on)
                self._token(DSML, on)
                self._text('invoke name="%s">\n' % call.name, on)
                for k, v in call.args.items():
                    self._text("<", on)
                    self._token(DSML, on)
                    s = isinstance(v, str)
                    self._text('parameter name="%s" string="%s">%s</' % (k, "true" if s else "false", v if s else J(v)), on)
                    self._token(DSML, on)
                    self._text("parameter>\n", on)
                if not call.args:
                    self._text("\n", on)
                self._text("</", on)
                self._token(DSML, on)
                self._text("invoke>\n", on)
            self._text("</", loss)
            self._token(DSML, loss)
            self._text("function_calls>", loss)
        self._token(EOS, loss)

    def results(self, texts):
        self.messages += [{"role": "tool", "content": t} for t in texts]
        self._text("\n\n<function_results>" + "".join("\n<result>%s</result>" % t for t in texts) + "\n</function_results>\n\n")
        self._token(THINK)

    def text(self):
        return "".join(p[1] for p in self.pieces)

    def encode(self, bpe, control_ids):
        """(ids, mask): mask is 1 where the token is to be predicted."""
        ids, mask, i = [], [], 0
        while i < len(self.pieces):
            c, text, loss = self.pieces[i]
            i += 1
            while c is None and i < len(self.pieces) and self.pieces[i][0] is None:  # one stretch of text, whatever its loss
                text, loss = text + self.pieces[i][1], loss and self.pieces[i][2]
                i += 1
            part = [control_ids[c]] if c else bpe(text)
            ids += part
            mask += [1 if loss else 0] * len(part)
        return ids, mask
