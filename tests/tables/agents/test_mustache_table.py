"""Mustache, one behaviour a row: what os-apply-config rendered, and where we are strict instead."""

import pytest

from baremetal.agents.apply import mustache

DATA = {
    "a": "A", "n": 42, "z": 0, "f": 1.5, "t": True, "no": False, "null": None, "empty": "", "html": "<&>\"'",
    "d": {"x": 1, "y": {"z": "deep"}}, "l": [1, "two", {"k": [3]}], "el": [], "uni": "ü", "lu": ["é"],
    "objs": [{"name": "p", "a": "inner"}, {"name": "q"}], "a b": "blank", "OpenStack::C": {"k": "v"}, "x/y": "slash",
}  # fmt: skip

RENDERS = [  # template                                   result
    ("{{a}} {{{a}}} {{&a}} {{& a }}", "A A A A"),
    ("{{html}}", "<&>\"'"),
    ("{{n}} {{z}} {{f}} {{t}} {{no}}", "42 0 1.5 true false"),
    ("[{{null}}][{{missing}}][{{d.nope.x}}]", "[][][]"),
    ("{{l}}", '[1, "two", {"k": [3]}]'),
    ("{{d}}", '{"x": 1, "y": {"z": "deep"}}'),
    ("{{uni}} {{lu}}", 'ü ["\\u00e9"]'),
    ("{{d.y.z}}", "deep"),
    ("{{l.0}}", ""),
    ("{{a b}} {{OpenStack::C.k}} {{x/y}}", "blank v slash"),
    ("{{#objs}}{{name}}={{a}} {{/objs}}", "p=inner q=A "),
    ("{{#d}}{{x}}{{y.z}}{{a}}{{/d}}", "1deepA"),
    ("{{#n}}{{.}}{{/n}}{{#a}}{{.}}{{/a}}", "42A"),
    ("{{#d}}{{.}}{{/d}}", '{"x": 1, "y": {"z": "deep"}}'),
    ("{{#l}}<{{.}}>{{/l}}", '<1><two><{"k": [3]}>'),
    (
        "{{#z}}y{{/z}}{{#empty}}y{{/empty}}{{#el}}y{{/el}}{{#no}}y{{/no}}{{#null}}y{{/null}}{{#missing}}y{{/missing}}",
        "",
    ),
    ("{{^z}}n{{/z}}{{^a}}n{{/a}}{{^missing}}m{{/missing}}", "nm"),
    # the first part is searched outward, the rest only inside what it found
    ("{{#objs}}{{d.x}}{{/objs}}", "11"),
    ("a\n  {{#t}}  \nb\n{{/t}}\nc\n", "a\n    \nb\nc\n"),  # a trailing blank defeats standing alone
    ("a\n  {{#t}}\nb\n  {{/t}}\nc\n", "a\nb\nc\n"),
    ("{{#t}}\nin\n{{/t}}", "in\n"),
    ("a\n{{! comment\n two lines }}\nb", "a\nb"),
    ("x {{! c }} y", "x  y"),
    ("{{=<% %>=}}\n<%a%> {{a}}\n<%={{ }}=%>\n{{a}}", "A {{a}}\nA"),
    ("a{{> nowhere}}b", "ab"),
    ("{a} { {a} } }} {{a}} }}", "{a} { {a} } }} A }}"),
    ("unclosed {{a", "unclosed {{a"),
    ("{{}}", "{{}}"),
    ("\t{{a}}\r\n", "\tA\r\n"),
]

REFUSED = [  # template             line  named
    ("{{#a}}{{/b}}", 1, "b"),
    ("x\n{{/a}}", 2, "a"),
    ("x\n\n{{#a}}\nrest is not lost", 3, "a"),
    ("{{#a}}{{#d}}{{/a}}{{/d}}", 1, "d"),
    ("{{=x=}}", 1, "x"),
]


@pytest.mark.parametrize(("template", "result"), RENDERS)
def test_renders(template, result):
    assert mustache.render(mustache.parse(template), DATA) == result


@pytest.mark.parametrize(("template", "line", "named"), REFUSED)
def test_refused(template, line, named):
    with pytest.raises(mustache.MustacheError) as caught:
        mustache.parse(template)
    assert caught.value.line == line
    assert named in caught.value.problem


@pytest.mark.parametrize("template", ["\n{{missing}}", "\n{{null}}", "\n{{d.q}}"])
def test_strict_names_line_and_key(template):
    with pytest.raises(mustache.MustacheError, match="line 2"):
        mustache.render(mustache.parse(template), DATA, strict=True)


def test_strict_looks_only_where_the_template_goes():
    assert mustache.render(mustache.parse("{{#missing}}{{x}}{{/missing}}{{^no}}ok{{/no}}"), DATA, strict=True) == "ok"
