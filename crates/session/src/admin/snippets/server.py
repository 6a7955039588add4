import os, requests

answer = requests.post(
    "{url}/api/v1/messages",
    headers={"authorization": "Bearer " + os.environ["XPUSH_KEY"]},
    json={"channel": "{channel}", "data": {"text": "Hello from Python"}},
)
print(answer.status_code, answer.json())
