-- coord: send one event to a channel.
SELECT type FROM coord.event_send('bench', '{"n": 1}', channel => 'bench');
