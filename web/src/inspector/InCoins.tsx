/** An amount in whole coins or in dollars: written in either, kept in base units, which are below for who wants them. */
import { SegmentedControl, TextInput } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { type ReactNode, useState } from 'react'
import { type Json, post } from '../api/client'
import { Exact } from '../api/exact'
import { amount, dollarsToUnits, fromUnits, money, unitsInDollars } from '../model/amounts'
import { ago } from '../parts/Time'
import { units as said } from '../words.palette'
import { type Coin, toUnits, useCoin } from './units'

const PRICE_FOR_MS = 300_000
type Change = (units: string | undefined) => void
type Props = { type: string; name: string; payload: Json; hasFaults: boolean; onChange: Change; children: ReactNode }

/** `children`: the field of the base units, shown alone for an expression, and for words such as `max`. */
export function InCoins({ type, name, payload, hasFaults, onChange, children }: Props) {
  const coin = useCoin(type, name, payload)
  const [isOpen, setIsOpen] = useState(false)
  const held = payload[name]
  const units = held instanceof Exact ? held.text : String(held ?? '')
  const isAmount = coin !== null && (!units || /^\d+$/.test(units))
  return (
    <div>
      {isAmount && (
        <Whole key={coin.symbol} name={name} units={units} coin={coin} payload={payload} onChange={onChange} />
      )}
      {isAmount && (
        <button type="button" className="link base" aria-expanded={isOpen} onClick={() => setIsOpen(!isOpen)}>
          {said.advanced}
        </button>
      )}
      <div hidden={isAmount && !isOpen && !(hasFaults && units)}>{children}</div>
    </div>
  )
}

type Price = { usd: string; at: string }

/** Asked for only when it is wanted: each look at it is a run that is recorded. */
function usePrice(coin: Coin, payload: Json, isWanted: boolean) {
  const chainId = payload.chainId instanceof Exact ? payload.chainId.text : Number(payload.chainId)
  return useQuery({
    queryKey: ['price', chainId, coin.token],
    queryFn: async (): Promise<Price | null> => {
      const inputs = { chainId, token: coin.token }
      const found = await post('/v1/actions/{type}/test', { path: { type: 'get-price' } }, { inputs } as never)
      const { usd, at } = (found.result ?? {}) as Json
      return usd === undefined ? null : { usd: usd instanceof Exact ? usd.text : String(usd), at: String(at) }
    },
    enabled: isWanted,
    staleTime: PRICE_FOR_MS,
    retry: false,
  })
}

type WholeProps = { name: string; units: string; coin: Coin; payload: Json; onChange: Change }

function Whole({ name, units, coin, payload, onChange }: WholeProps) {
  const [typed, setTyped] = useState<string | null>(null)
  const [unit, setUnit] = useState<'coin' | 'usd'>('coin')
  const [isWanted, setIsWanted] = useState(false)
  const found = usePrice(coin, payload, isWanted)
  const price = found.data
  const isUsd = unit === 'usd' && Boolean(price)
  const toBase = (text: string) =>
    isUsd && price ? dollarsToUnits(text, price.usd, coin.decimals) : toUnits(text, coin.decimals)
  const whole = units ? fromUnits(BigInt(units), coin.decimals) : ''
  const dollars = units && price ? unitsInDollars(units, price.usd, coin.decimals) : null
  const isWrong = typed !== null && typed !== '' && toBase(typed) === null
  const write = (text: string) => {
    setTyped(text)
    const next = text === '' ? undefined : toBase(text)
    if (next !== null) onChange(next)
  }
  const isUnpriced = isWanted && !found.isPending && !price
  return (
    <>
      <TextInput
        inputMode="decimal"
        label={isUsd ? said.label('USD') : said.label(coin.symbol)}
        value={typed ?? (isUsd ? (dollars ?? '') : whole)}
        error={isWrong && (isUsd ? said.wrongUsd : said.wrong(coin.symbol, coin.decimals))}
        onChange={(event) => write(event.currentTarget.value)}
        onFocus={() => setIsWanted(true)}
        onBlur={() => !isWrong && setTyped(null)}
      />
      <div className="worth">
        <SegmentedControl
          size="xs"
          aria-label={said.unit(name)}
          data={[
            { value: 'coin', label: coin.symbol },
            { value: 'usd', label: 'USD', disabled: isUnpriced },
          ]}
          value={isUsd ? 'usd' : 'coin'}
          onChange={(value) => {
            setUnit(value as 'coin' | 'usd')
            setTyped(null)
            setIsWanted(true)
          }}
        />
        <small className="quiet" role="status">
          {isUnpriced && said.noPrice(coin.symbol)}
          {price && dollars && units && said.worth(isUsd ? `${amount(whole)} ${coin.symbol}` : money(dollars))}{' '}
          {price && said.price(money(price.usd), ago(price.at, Date.now()))}
        </small>
      </div>
    </>
  )
}
