"""When requests arrive, and what came back: schedules, open-loop replay, the request log and its verdict."""
