-- Where the case files ask DuckDB for rows to compare with, in few words, here is what it answers sooner.

-- === q5
WITH slices AS (
  SELECT date_time - date_time % 2000 AS slice, auction, count(*) AS bids FROM bid GROUP BY ALL
), windows AS (
  SELECT slice - 2000 * i AS window_start, auction, CAST(sum(bids) AS BIGINT) AS num
  FROM slices, range(5) AS r(i) GROUP BY ALL
), most AS (
  SELECT window_start AS start, max(num) AS most FROM windows GROUP BY ALL
)
SELECT window_start, auction, num FROM windows JOIN most ON window_start = start AND num = most

-- === q7
WITH most AS (
  SELECT date_time - date_time % 10000 AS start, max(price) AS most FROM bid GROUP BY ALL
)
SELECT start AS window_start, auction, price, bidder, date_time, extra
FROM bid JOIN most ON date_time - date_time % 10000 = start AND price = most
