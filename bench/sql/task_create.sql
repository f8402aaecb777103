-- coord: create one task.
SELECT state FROM coord.task_create('bench', '{"n": 1}', queue => 'created');
