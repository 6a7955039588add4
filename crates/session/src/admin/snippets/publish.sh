XPUSH_KEY='YOUR-API-KEY'
curl '{url}/api/v1/messages' \
  -H "authorization: Bearer $XPUSH_KEY" \
  -H 'content-type: application/json' \
  -d '{"channel": "{channel}", "data": {"text": "Hello from my back end"}}'
