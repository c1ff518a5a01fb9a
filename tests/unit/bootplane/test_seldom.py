"""An alarm is told once in ten seconds for a source, with how often it happened."""

from baremetal.bootplane.seldom import MOST, Seldom, Share

CASES = [(0, 1), (1, 0), (2, 0), (9.9, 0), (10, 4), (11, 0), (30, 2)]  # time, what due() says


def test_one_source():
    alarms = Seldom()
    assert [(at, alarms.due("a", at)) for at, _ in CASES] == CASES


def test_sources_are_apart_and_bounded():
    alarms = Seldom()
    assert alarms.due("a", 0)
    assert alarms.due("b", 0)
    for n in range(MOST * 2):
        alarms.due(f"x{n}", 1)
    assert len(alarms._last) <= MOST
    assert alarms.due("new", 20)


async def test_guessing_tokens_leaves_one_message(rig):
    from conftest_bootplane import until

    for _ in range(20):
        async with rig.session.get(rig.https + "/order", headers={"Authorization": "Bearer x"}) as answer:
            assert answer.status == 401
    await until(lambda: any(m.kind == "refused" for m in rig.control.seen))
    assert sum(m.kind == "refused" for m in rig.control.seen) == 1


def test_a_share_is_spent_and_comes_back() -> None:
    share = Share(3, 2.0)
    assert [share.take("n1", now=10.0) for _ in range(5)] == [True, True, True, False, False]
    assert share.take("n2", now=10.0)
    assert [share.take("n1", now=11.0) for _ in range(3)] == [True, True, False]
    assert [share.take("n1", now=99.0) for _ in range(4)] == [True, True, True, False]
