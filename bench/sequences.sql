-- What jobs/sessionize.py and jobs/sequence.py write of events in Parquet files, as DuckDB does it: same rows, same columns.
-- {{files}}, {{folder}} and the settings' numbers are filled in by bench/sequences.py. Protocol global_time, no campaigns, no prices.
SET TimeZone = 'UTC';
CREATE OR REPLACE MACRO bucket(seconds) AS CASE WHEN seconds IS NULL THEN 1 WHEN seconds < 1 THEN 2
  ELSE least(27, 3 + floor(log2(floor(seconds)))::INT) END;
CREATE OR REPLACE TEMP TABLE ordered AS
SELECT user_id, item_id, event_type, event_time, category, event_id,
  row_number() OVER w AS n,
  date_diff('microseconds', lag(event_time) OVER w, event_time) AS since,
FROM read_parquet({{files}}) WINDOW w AS (PARTITION BY user_id ORDER BY event_time, event_id);

CREATE OR REPLACE TEMP TABLE numbered AS
SELECT *, sum((since IS NULL OR since > {{gap}})::INT) OVER (PARTITION BY user_id ORDER BY n) AS session FROM ordered;

COPY (
  SELECT user_id, md5(concat_ws(chr(31), epoch_us(min(event_time))::VARCHAR, user_id)) AS session_id,
    min(event_time) AS started_at, max(event_time) AS ended_at, count(*)::INT AS num_events,
    list(event_time ORDER BY n) AS event_time, list(item_id ORDER BY n) AS item_id, list(event_type ORDER BY n) AS event_type,
    list(NULL::DOUBLE ORDER BY n) AS price, list(category ORDER BY n) AS category, list(NULL::VARCHAR ORDER BY n) AS campaign_id
  FROM numbered GROUP BY user_id, session
) TO '{{folder}}/sessions.parquet' (FORMAT parquet);

CREATE OR REPLACE TEMP TABLE items AS
SELECT item_id, (1 + row_number() OVER (ORDER BY count DESC, item_id))::INT AS code
FROM (SELECT item_id, count(*) AS count FROM ordered WHERE event_time < TIMESTAMPTZ '{{valid_from}}' GROUP BY item_id)
WHERE count >= {{min_item_count}};
CREATE OR REPLACE TEMP TABLE categories AS
SELECT category, (1 + row_number() OVER (ORDER BY count DESC, category))::INT AS code
FROM (SELECT category, count(*) AS count FROM ordered WHERE event_time < TIMESTAMPTZ '{{valid_from}}' GROUP BY category);

CREATE OR REPLACE TEMP TABLE coded AS
SELECT user_id, n, event_time, epoch_us(event_time) AS t,
  coalesce(items.code, 1) AS item, coalesce(items.code, -1 - (hash(item_id) >> 33)::INT) AS target,
  CASE event_type {{event_codes}} END AS event,
  bucket(since / 1e6) AS gap, CASE WHEN since IS NULL OR since > {{gap}} THEN 2 ELSE 1 END AS opens_session,
  coalesce(categories.code, 1) AS category, hour(event_time)::INT + 1 AS hour, isodow(event_time)::INT AS weekday,
  event_type = 'purchase' AS active, session
FROM numbered LEFT JOIN items USING (item_id) LEFT JOIN categories USING (category);

-- What is known after each event: how many came before a moment, which sessions had an activity, when the first and the last one were.
CREATE OR REPLACE TEMP TABLE known AS
SELECT user_id, n, t, active,
  count(*) OVER moments AS ends, -- with all events of its moment
  count(*) OVER (PARTITION BY user_id ORDER BY t RANGE BETWEEN UNBOUNDED PRECEDING AND {{horizon}} FOLLOWING) AS until,
  min(t) FILTER (WHERE active) OVER so_far AS first_active, max(t) FILTER (WHERE active) OVER so_far AS last_active,
  sum(opening::INT) OVER so_far AS active_sessions,
  min(t) FILTER (WHERE active) OVER to_come AS next_active, min(n) FILTER (WHERE active) OVER to_come AS next_place
FROM (SELECT *, active AND row_number() OVER (PARTITION BY user_id, session, active ORDER BY n) = 1 AS opening FROM coded)
WINDOW so_far AS (PARTITION BY user_id ORDER BY n), moments AS (PARTITION BY user_id ORDER BY t),
  to_come AS (PARTITION BY user_id ORDER BY n ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING);

-- Lists of {{length}} events each: a row's last ones lie in two of them, and no join copies a user's whole history for each feature.
CREATE OR REPLACE TEMP TABLE blocks AS
SELECT user_id, (n - 1) // {{length}} AS block, list(item ORDER BY n) AS item, list(event ORDER BY n) AS event, list(gap ORDER BY n) AS gap,
  list(opens_session ORDER BY n) AS opens_session, list(1 ORDER BY n) AS price, list(category ORDER BY n) AS category,
  list(hour ORDER BY n) AS hour, list(weekday ORDER BY n) AS weekday
FROM coded GROUP BY user_id, block;
CREATE OR REPLACE TEMP TABLE users AS SELECT user_id, list(target ORDER BY n) AS target, min(t) AS began FROM coded GROUP BY user_id;

CREATE OR REPLACE TEMP TABLE windows AS -- after each stride of a user's events of training time, and after the last of them
WITH train AS (SELECT *, count(*) OVER (PARTITION BY user_id) AS total FROM known WHERE t < {{valid_us}}),
  asked AS (SELECT DISTINCT user_id, ends AS finish, total FROM train WHERE (n % {{stride}} = 0 OR n = total) AND ends >= 2)
SELECT 'train' AS split, 'window' AS cut, user_id, t AS as_of, finish, least(until, total) AS stop, least(until, total) AS reach,
  coalesce(lag(finish) OVER (PARTITION BY user_id ORDER BY finish), 0) AS earlier, t AS known_until
FROM asked JOIN (SELECT user_id, n AS finish, t, until FROM known) USING (user_id, finish);

CREATE OR REPLACE TEMP TABLE closing AS SELECT user_id, t, n FROM known WHERE n = ends;
CREATE OR REPLACE TEMP TABLE calendar AS
WITH moments(split, as_of, last) AS (VALUES {{moments}}),
  asked AS (SELECT split, user_id, as_of, last, min(as_of) OVER (PARTITION BY user_id, split) AS first_of_split
            FROM users JOIN moments ON began <= as_of)
SELECT split, 'calendar' AS cut, asked.user_id, as_of, here.n AS finish, later.n AS stop, past.n AS reach,
  CASE WHEN as_of = first_of_split THEN 0 ELSE coalesce(before.n, 0) END AS earlier, follow_end + 1 AS known_until
FROM (SELECT *, least(as_of + {{horizon}}, last) AS horizon_end, least(as_of + {{follow_up}}, last) AS follow_end,
        as_of - {{every}} AS previous FROM asked) AS asked
ASOF JOIN closing AS here ON here.user_id = asked.user_id AND here.t <= asked.as_of
ASOF JOIN closing AS later ON later.user_id = asked.user_id AND later.t <= asked.horizon_end
ASOF JOIN closing AS past ON past.user_id = asked.user_id AND past.t <= asked.follow_end
ASOF LEFT JOIN closing AS before ON before.user_id = asked.user_id AND before.t <= asked.previous;

COPY (
  SELECT rows.user_id, split, cut, make_timestamp(as_of)::TIMESTAMPTZ AS as_of,
    least(finish, {{length}})::INT AS length, least(finish - earlier, {{length}})::INT AS fresh,
    bucket((as_of - state.t) / 1e6) AS recency,
    {{features}},
    greatest(coalesce(active_sessions, 0) - 1, 0)::INT AS repeats,
    ((as_of - coalesce(last_active, began)) // 3600000000)::INT AS idle_hours,
    ((as_of - coalesce(first_active, began)) // 3600000000)::INT AS tenure_hours,
    {{nothing}},
    list_resize(list_transform(list_filter(target[finish + 1 : stop], lambda x, i: list_position(target[finish + 1 : stop], x) = i)[:64],
      lambda x: greatest(x, 1)), 64, 0) AS next_items,
    [0, 0] AS answer_day, [0, 0, 0] AS trial,
    [CASE WHEN next_place <= reach THEN (next_active - as_of + 86399999999) // 86400000000 ELSE 0 END::INT,
     ((known_until - as_of) // 86400000000)::INT] AS next_activity,
    (stop > finish)::INT AS returns, NULL::VARCHAR AS campaign_id
  FROM (SELECT *, (finish - 1) // {{length}} AS block FROM (SELECT * FROM windows UNION ALL SELECT * FROM calendar)) AS rows
  JOIN users USING (user_id)
  JOIN blocks AS here ON here.user_id = rows.user_id AND here.block = rows.block
  LEFT JOIN blocks AS before ON before.user_id = rows.user_id AND before.block = rows.block - 1
  JOIN known AS state ON state.user_id = rows.user_id AND state.n = finish
  ORDER BY split, cut, hash(rows.user_id, as_of)
) TO '{{folder}}/sequences' (FORMAT parquet, PARTITION_BY (split, cut), OVERWRITE);
