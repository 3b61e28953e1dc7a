-- The queries as Flink is asked, each behind its line: the sink's columns, and then the query. {bid}, {auction} and
-- {person} are windows of ten seconds over those tables.

-- === q0
auction BIGINT, bidder BIGINT, price BIGINT, date_time BIGINT, extra STRING;
SELECT auction, bidder, price, date_time, extra FROM bid

-- === q1
auction BIGINT, bidder BIGINT, price DOUBLE, date_time BIGINT, extra STRING;
SELECT auction, bidder, 0.908e0 * price, date_time, extra FROM bid

-- === q2
auction BIGINT, price BIGINT;
SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0

-- === tumble
window_start TIMESTAMP(3), auction BIGINT, num BIGINT;
SELECT window_start, auction, COUNT(*) FROM {bid} GROUP BY window_start, window_end, auction

-- === q5
window_start TIMESTAMP(3), auction BIGINT, num BIGINT;
SELECT c.window_start, c.auction, c.num
FROM (
  SELECT auction, COUNT(*) AS num, window_start, window_end
  FROM TABLE(HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
  GROUP BY auction, window_start, window_end
) AS c
JOIN (
  SELECT MAX(num) AS most, window_start, window_end
  FROM (
    SELECT auction, COUNT(*) AS num, window_start, window_end
    FROM TABLE(HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
    GROUP BY auction, window_start, window_end
  )
  GROUP BY window_start, window_end
) AS m ON c.window_start = m.window_start AND c.window_end = m.window_end AND c.num = m.most

-- === q7
window_start TIMESTAMP(3), auction BIGINT, price BIGINT, bidder BIGINT, date_time BIGINT, extra STRING;
SELECT b.window_start, b.auction, b.price, b.bidder, b.date_time, b.extra
FROM (SELECT * FROM {bid}) AS b
JOIN (SELECT MAX(price) AS most, window_start, window_end FROM {bid} GROUP BY window_start, window_end) AS m
  ON b.window_start = m.window_start AND b.window_end = m.window_end AND b.price = m.most

-- === q8
id BIGINT, name STRING, window_start TIMESTAMP(3);
SELECT p.id, p.name, p.window_start
FROM (SELECT id, name, window_start, window_end FROM {person} GROUP BY id, name, window_start, window_end) AS p
JOIN (SELECT seller, window_start, window_end FROM {auction} GROUP BY seller, window_start, window_end) AS a
  ON p.id = a.seller AND p.window_start = a.window_start AND p.window_end = a.window_end

-- === q11
bidder BIGINT, num BIGINT, starts TIMESTAMP(3), ends TIMESTAMP(3);
SELECT bidder, COUNT(*), window_start, window_end
FROM TABLE(SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY bidder, window_start, window_end

-- === hc
window_start TIMESTAMP(3), auction BIGINT, bidder BIGINT, channel STRING, num BIGINT, mean DOUBLE, most BIGINT, urls BIGINT;
SELECT window_start, auction, bidder, channel, COUNT(*), AVG(CAST(price AS DOUBLE)), MAX(price), COUNT(DISTINCT url)
FROM {bid} GROUP BY window_start, window_end, auction, bidder, channel
